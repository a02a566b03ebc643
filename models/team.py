"""Agents that work together: the process of a `team` step."""

from .steps import Process


class TeamProcess(Process):
    """Members of a team, and the messages between them."""

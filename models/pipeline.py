"""Stages that overlap: the process of a `pipeline` step."""

from .steps import Process


class PipelineProcess(Process):
    """Stages that hand pieces to one another."""

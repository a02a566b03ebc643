"""Taking in modalities: the process of a `perceive` step."""

from .steps import Process


class PerceiveProcess(Process):
    """Modalities side by side, and what brings them together."""

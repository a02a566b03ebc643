"""Tools: search, code execution, databases, other services that an agent calls.

Leaves out: see `service`.
Checked: tests/test_tools.py.
"""

from .service import ServiceSpec


class Tool(ServiceSpec):
    """A tool an agent may choose, or a step may call."""

"""Lines of JSON on the standard output: how a process of the system answers who started it.

Checked: tests/test_validation_system.py.
"""

import json
import sys
from typing import Any

__all__ = ["say"]


def say(value: Any) -> None:
    """Write a value as a line, at once."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()

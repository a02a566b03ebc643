"""The section `sensitivity` of a scenario.

Checked: tests/test_sensitivity.py.
"""

from ..sim.engine.spec import Spec

__all__ = ["SensitivitySpec"]


class SensitivitySpec(Spec):
    """What `coordsim sensitivity` does with the scenario."""

"""The section `plan` of a scenario.

Checked: tests/test_plan.py.
"""

from ..sim.engine.spec import Spec

__all__ = ["PlanSpec"]


class PlanSpec(Spec):
    """What `coordsim plan` does with the scenario."""

"""The section `study` of a scenario.

Checked: tests/test_study.py.
"""

from ..sim.engine.spec import Spec

__all__ = ["StudySpec"]


class StudySpec(Spec):
    """What `coordsim sweep` does with the scenario."""

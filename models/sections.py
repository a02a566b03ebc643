"""What is wrong in the sections of a scenario that say what to run: each is built as its command does, and nothing runs.

Leaves out: `scaling`, which says little without the command's options.
Checked: tests/test_cli.py.
"""

from collections.abc import Callable, Iterator

from ..sim.engine.errors import CoordsimError
from .compare_plan import make_plan as make_comparison
from .plan_problem import plan_problem
from .scenario import Scenario
from .sensitivity import make_plan as make_sensitivity
from .study import all_scenarios
from .study_asked import StudyOptions, asked
from .study_cells import make_study

__all__ = ["mistakes_in_sections"]


def _make_study(scenario: Scenario) -> object:
    loaded = all_scenarios([scenario])
    return make_study(loaded, asked(scenario, StudyOptions()))


_BUILDERS: dict[str, Callable[[Scenario], object]] = {
    "compare": make_comparison,
    "study": _make_study,
    "sensitivity": make_sensitivity,
    "plan": plan_problem,
}


def mistakes_in_sections(scenario: Scenario) -> Iterator[CoordsimError]:
    """Yield the mistakes of every section that the scenario has and that cannot be run."""
    for name, build in _BUILDERS.items():
        if getattr(scenario, name) is not None:
            try:
                build(scenario)
            except CoordsimError as error:
                yield error

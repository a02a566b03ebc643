"""coordsim: predict where the time of an agentic AI system goes, before it is built.

The names below are the public API. Each is imported on first use (PEP 562), so `import coordsim` costs milliseconds and
never imports torch, scipy or pandas.

Leaves out: everything else in the package, which may change between releases.
Checked: tests/test_packaging.py resolves every name and looks at what a bare import pulls in.
"""

from importlib import import_module, metadata
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # what editors and type checkers see; a test holds it to `_EXPORTS`
    from .explorer import explore as explore
    from .models.scenario import Scenario as Scenario
    from .sim.analysis.jobs import Workers as Workers
    from .sim.analysis.result import Result as Result
    from .sim.engine.errors import ScenarioError as ScenarioError
    from .sim.engine.ledger import Ledger as Ledger
    from .sim.trace.tally import TraceError as TraceError
    from .whatif import CapacityPlan as CapacityPlan
    from .whatif import Comparison as Comparison
    from .whatif import Sensitivity as Sensitivity
    from .whatif import Simulation as Simulation
    from .whatif import Study as Study
    from .whatif import compare as compare
    from .whatif import load as load
    from .whatif import plan as plan
    from .whatif import report as report
    from .whatif import sensitivity as sensitivity
    from .whatif import simulate as simulate
    from .whatif import sweep as sweep
    from .whatif_studies import FaultStudy as FaultStudy
    from .whatif_studies import Scaling as Scaling
    from .whatif_studies import faults as faults
    from .whatif_studies import scaling as scaling
    from .whatif_traces import Holdout as Holdout
    from .whatif_traces import Traces as Traces
    from .whatif_traces import traces as traces

    __version__: str

_EXPORTS: dict[str, str] = {
    "CapacityPlan": "whatif",
    "Comparison": "whatif",
    "FaultStudy": "whatif_studies",
    "Holdout": "whatif_traces",
    "Ledger": "sim.engine.ledger",
    "Result": "sim.analysis.result",
    "Scaling": "whatif_studies",
    "Scenario": "models.scenario",
    "ScenarioError": "sim.engine.errors",
    "Sensitivity": "whatif",
    "Simulation": "whatif",
    "Study": "whatif",
    "TraceError": "sim.trace.tally",
    "Traces": "whatif_traces",
    "Workers": "sim.analysis.jobs",
    "compare": "whatif",
    "explore": "explorer",
    "faults": "whatif_studies",
    "load": "whatif",
    "plan": "whatif",
    "report": "whatif",
    "scaling": "whatif_studies",
    "sensitivity": "whatif",
    "simulate": "whatif",
    "sweep": "whatif",
    "traces": "whatif_traces",
}

# For a source tree that was never installed; a test holds it to pyproject.toml.
_VERSION = "0.1.0"


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for."""
    if name == "__version__":
        value: object = _installed_version()
    elif name in _EXPORTS:
        value = getattr(import_module(f".{_EXPORTS[name]}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *_EXPORTS, "__version__"})


def _installed_version() -> str:
    try:
        return metadata.version("coordsim")
    except metadata.PackageNotFoundError:
        return _VERSION

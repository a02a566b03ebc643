"""Traces in Python: `traces(files)` reads them, and answers with where their time went; from there to a scenario, and back to files.

    import coordsim as cs
    found = cs.traces("traces.jsonl")
    print(found)                               # the report of `coordsim trace explain`
    scenario = found.fit()                     # a Scenario: cs.simulate, cs.compare, cs.sweep ... as for any other

Leaves out: how files are read (`sim.trace`), fitted (`calibration.traces`) and said (`sim.report.trace_tables`).
Checked: tests/test_trace_python.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Literal

from .models.scenario import Scenario
from .models.trace_digest import digest_of, result_of, source_of
from .sim.analysis.holdout import HoldoutResult
from .sim.analysis.jobs import Workers
from .sim.analysis.result import Result
from .sim.analysis.trace_digest import TraceDigest
from .sim.report.files import write_text
from .sim.report.layout import WIDTH, Report, lay_out, text
from .sim.report.page.provenance import Provenance
from .sim.report.trace_answers import to_csv
from .sim.report.trace_tables import report as trace_report
from .sim.trace.measured import Call, Measured, TaskTrace
from .sim.trace.read import read
from .sim.trace.tally import Tally
from .whatif import Told, load

if TYPE_CHECKING:
    import pandas as pd

    from .sim.report.page.parts import Chart
    from .sim.report.stored import Stored
    from .sim.trace.export import Format as ExportFormat

__all__ = ["Holdout", "Traces", "calls_frame", "traces"]

COLUMNS = (
    "task", "trace", "session", "class", "kind", "component", "agent", "turn", "batch", "start_s", "end_s", "seconds_s", "critical_s",
    "ttft_s", "new_tokens", "cached_tokens", "output_tokens", "input_bytes", "output_bytes", "error", "retried", "stub",
)  # fmt: skip

Files = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
By = Literal["trace", "session"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Holdout(Told[HoldoutResult]):
    """How a fit to a part of the tasks predicts the others: predicted against measured, with intervals; `source` is the traces."""

    source: Provenance

    _tables, _section = "holdout_tables", "holdout"

    def _name(self) -> str:
        return self.result.name

    def _stored(self) -> Stored:
        from .sim.report.stored import Stored, kind_of

        return Stored(kind_of(self.result), self.result, self.source)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Traces(Told[TraceDigest]):
    """What trace files say: where the time went, in the terms of a simulation; `measured` has the ledger and every call."""

    measured: Measured

    _tables, _section = "trace_tables", "trace"

    def __str__(self) -> str:
        """Return the report, as the command prints it."""
        said = text(lay_out(self._report())).rstrip("\n")
        return "\n".join([said, *(line for one in self.warnings for line in wrap(f"WARNING: {one}", WIDTH))])

    def _report(self) -> Report:
        return trace_report(self.result)

    def _csv(self) -> str:
        return to_csv(self.result)

    def _charts(self) -> Mapping[str, Chart]:
        from .sim.report.sections.trace import parts

        found = parts(self.result, source_of(self.measured, self.call))
        return {one.name: one for part in found for one in part.charts}

    def _doubts(self) -> Iterable[str]:
        return self.result.doubts

    @property
    def tally(self) -> Tally:
        """What became of every span: read, repaired, dropped, guessed, each counted by its reason."""
        return self.measured.tally

    @property
    def replay(self) -> Result:
        """The measured ledger as a simulation's result: its tasks, accounts and spans."""
        return result_of(self.measured)

    def to_frame(self) -> pd.DataFrame:
        """Return a row for each task: when it came and ended, its status, and its seconds by category and account."""
        return self.replay.to_frame()

    def calls(self) -> pd.DataFrame:
        """Return a row for each call of a model, a tool or a person: times (s), tokens, bytes; nan is not known."""
        return calls_frame(self.measured)

    def fit(self, path: str | os.PathLike[str] | None = None, *, name: str = "", seed: int = 0) -> Scenario:
        """Return a scenario fitted to the traces; write its text, with samples and intervals in comments, to `path` (.yaml) if one is given.

        What is there is replaced. Raises TraceError where no task calls a model or a tool.
        """
        from .calibration.traces import fit

        place = Path("scenario.yaml" if path is None else path)
        called = name or ("" if path is None else place.stem)
        text = fit.text(fit.fit(self.measured, seed), self.measured, name=called, seed=seed, run=place.name)
        if path is None:
            return Scenario.from_text(text)
        write_text(place, text, overwrite=True)
        return load(place)

    def holdout(self, share: float = 0.5, *, seed: int = 0, workers: int | Workers = 1) -> Holdout:
        """Fit to a part of the tasks, and predict the others: a `share` of them, which the fit does not see.

        No number depends on `workers`. Raises TraceError for traces that cannot be split, ValueError for a share that is not between 0 and 1.
        """
        from .calibration.traces.holdout import holdout, source

        found = holdout(self.measured, share, seed=seed, workers=workers)
        call = f"{self.call}.holdout({share!r}{f', seed={seed}' if seed else ''})"
        return Holdout(found, source(self.measured, call), call=call)

    def export(self, path: str | os.PathLike[str], format: ExportFormat = "otlp") -> Path:
        """Write the traces for other tools: 'otlp', 'otlp-proto', 'perfetto', 'chrome' or 'csv'; return the path.

        What is there is replaced. Raises ValueError for another format, TraceError where nothing can be written.
        """
        from .models.trace_export import export, of_measured

        export(of_measured(self.measured), format, Path(path), overwrite=True)
        return Path(path)

    def _name(self) -> str:
        return self.measured.name

    def _stored(self) -> Stored:
        from .sim.report.stored import Stored, kind_of

        return Stored(kind_of(self.result), self.result, source_of(self.measured, self.call))


def traces(files: Files, *, hash_names: bool = False, by: By = "trace", name: str | None = None) -> Traces:
    """Read trace files of any format that coordsim knows, told by their content, and say where their time went.

    Several files are taken together. `by` says what one task is: a trace, or all traces of a session. With `hash_names` the names
    of models, tools and agents are replaced by hashes; contents are never kept. Raises TraceError for a file that cannot be read.
    """
    paths = [Path(files)] if isinstance(files, str | os.PathLike) else [Path(one) for one in files]
    measured = read(paths, hash_names=hash_names, by=by, name=name)
    call = _call(paths, {"hash_names": hash_names or None, "by": None if by == "trace" else by, "name": name})
    return Traces(digest_of(measured), measured, call=call)


def calls_frame(measured: Measured) -> pd.DataFrame:
    """Return a row for each call, in order of tasks and of their starts; of traces without calls the columns alone."""
    import pandas as pd

    return pd.DataFrame([_row(task, call) for task in measured.tasks for call in task.calls], columns=COLUMNS)


def _row(task: TaskTrace, call: Call) -> dict[str, Any]:
    return {
        "task": task.task,
        "trace": task.trace,
        "session": task.session,
        "class": task.task_class,
        "kind": call.kind,
        "component": call.component,
        "agent": call.agent,
        "turn": call.turn,
        "batch": call.batch,
        "start_s": call.start,
        "end_s": call.end,
        "seconds_s": call.seconds,
        "critical_s": call.critical,
        "ttft_s": call.first_token,
        "new_tokens": call.new,
        "cached_tokens": call.cached,
        "output_tokens": call.output,
        "input_bytes": call.input_bytes,
        "output_bytes": call.output_bytes,
        "error": call.error,
        "retried": call.retried,
        "stub": call.stub,
    }


def _call(paths: Sequence[Path], options: dict[str, Any]) -> str:
    """Return the call as Python writes it, without the folders of its files."""
    names = [path.name for path in paths]
    words = [repr(names[0]) if len(names) == 1 else repr(names)]
    words += [f"{name}={one!r}" for name, one in options.items() if one is not None]
    return f"coordsim.traces({', '.join(words)})"

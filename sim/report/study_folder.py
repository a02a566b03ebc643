"""The folder of a study: what is run, a journal while it runs, and the tables once all cells are complete.

    study.plan.json    what the study is, written first: `--resume` goes on only with the same
    journal            cells as they are complete
    study.csv          the long table; samples.csv the number of each replication; study.parquet the wide table
    study.json         everything but samples; report.md; study.html; scenario.NAME.yaml

Every file is whole or not there. The tables hold nothing of where and when they were made: the same study gives the same bytes.

Leaves out: reading a study back.
Checked: tests/test_sweep_command.py.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..analysis.study import StudyResult
from ..engine.errors import show
from .files import FileError
from .layout import markdown
from .study_plot import page
from .study_tables import report, to_csv, to_json, to_samples_csv

if TYPE_CHECKING:
    from ..analysis.journal import FileJournal

__all__ = ["StudyFolder"]

PLAN, JOURNAL = "study.plan.json", "journal"
_TABLES = ("study.csv", "samples.csv", "study.parquet", "study.json", "report.md", "study.html")
KEY, VERSION = "coordsim_study_plan", 1
MOST_TOLD = 120  # characters of a part of a plan


class StudyFolder:
    """A folder that one study is written to."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def begin(self, identity: Mapping[str, Any], *, resume: bool = False, overwrite: bool = False) -> None:
        """Take the folder for a study: a new one, or with `resume` the one that it holds, which must be the same.

        Raises FileError for a folder that holds something else, or a study that is neither to be resumed nor overwritten.
        """
        if resume and overwrite:
            raise FileError("--resume goes on with a study, and --overwrite starts it anew; give one of them")
        if self.path.exists() and not self.path.is_dir():
            raise FileError(f"{self.path} exists and is not a folder; choose another place with -o")
        plan = {KEY: VERSION, **json.loads(json.dumps(identity))}
        if self.path.is_dir() and any(self.path.iterdir()):
            if not (self.path / PLAN).is_file():
                raise FileError(f"{self.path} holds files and no study; choose another place with -o")
            if resume:
                self._check_same(plan)
                return
            if not overwrite:
                raise FileError(
                    f"{self.path} holds a study already; go on with it by --resume, choose another place with -o, or pass --overwrite"
                )
            self._clear()
        self._put(PLAN, json.dumps(plan, indent=1, ensure_ascii=False).encode() + b"\n")

    def _check_same(self, plan: Mapping[str, Any]) -> None:
        try:
            found = json.loads((self.path / PLAN).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise FileError(f"{self.path / PLAN} cannot be read: {error}; start anew with --overwrite") from None
        if not isinstance(found, dict) or found.get(KEY) != VERSION:
            raise FileError(f"{self.path / PLAN} is of another version of coordsim; start anew with --overwrite")
        differ = [name for name in plan if plan[name] != found.get(name)]
        if differ:
            told = "; ".join(
                _differs(name, found.get(name), plan[name]) for name in differ if name != "points" or len(differ) == 1
            )
            raise FileError(
                f"{self.path} holds another study: {told}; choose another place with -o, or pass --overwrite"
            )

    def journal(self) -> FileJournal:
        """Return the journal of the cells that are complete, to be closed. Raises JournalError, such as when another process writes it."""
        from ..analysis.journal import FileJournal

        return FileJournal(self.path / JOURNAL)

    def _clear(self) -> None:
        """Remove what a study wrote, and nothing else."""
        names = [*_TABLES, *(one.name for one in self.path.glob("scenario.*.yaml")), PLAN]
        if (self.path / f"{JOURNAL}.lock").exists():  # another process may be writing: then this refuses
            self.journal().close()
        try:
            for name in (JOURNAL, *names):
                (self.path / name).unlink(missing_ok=True)
        except OSError as error:
            raise FileError(f"{self.path} cannot be cleared: {error.strerror or error}") from error

    def write(self, found: StudyResult, scenarios: Mapping[str, str]) -> None:
        """Write the tables, the JSON last; `scenarios` are YAML by name. Raises FileError."""
        import pyarrow.parquet as pq

        stream = io.BytesIO()
        pq.write_table(found.to_table(), stream)
        texts = {
            f"scenario.{re.sub(r'[^A-Za-z0-9_.-]+', '-', name).strip('-')}.yaml": text
            for name, text in scenarios.items()
        }
        texts |= {"study.csv": to_csv(found), "samples.csv": to_samples_csv(found)}
        texts |= {"report.md": markdown(report(found)), "study.html": page(found)}
        for name, text in texts.items():
            self._put(name, text.encode())
        self._put("study.parquet", stream.getvalue())
        self._put("study.json", to_json(found).encode())

    def _put(self, name: str, content: bytes) -> None:
        path = self.path / name
        temporary = path.with_name(f".{name}.{os.getpid()}")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(content)
            temporary.replace(path)
        except OSError as error:
            raise FileError(f"{path} cannot be written: {error.strerror or error}") from error
        finally:
            temporary.unlink(missing_ok=True)


def _differs(name: str, was: Any, now: Any) -> str:
    """Return how a part of the plan differs; of scenarios, which are known by a hash, their names."""
    if name == "scenarios" and isinstance(was, dict) and was.keys() == now.keys():
        return f"the scenario {', '.join(one for one in now if was[one] != now[one])} was another then"
    if name == "settings" and isinstance(was, list) and len(was) == len(now) == 1:
        parts = [one for one in now[0] if was[0].get(one) != now[0][one]]
        return "; ".join(f"`{one}` was {_told(was[0].get(one))}, and is {_told(now[0][one])}" for one in parts)
    return f"`{name}` was {_told(was)}, and is {_told(now)}"


def _told(value: object) -> str:
    """Return a part of a plan as an error repeats it."""
    if isinstance(value, list | dict):
        text = json.dumps(value, ensure_ascii=False)
        return text if len(text) <= MOST_TOLD else f"{text[: MOST_TOLD - 1]}…"
    return show(value)

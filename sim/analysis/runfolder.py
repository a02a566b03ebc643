"""A run on disk: a folder that says what ran, and holds its numbers.

    manifest.json            version of this format, versions of the software, seed, replications, hash of the scenario
    scenario.resolved.yaml   the scenario with everything filled in
    summary.json             `Summary.to_dict`
    tasks.parquet            one row a task and replication
    spans.parquet            one row a span, if spans were kept
    incidents.parquet        one row a task that something went wrong for
    strikes.parquet          one row a strike: the first of each cause, as examples
    turns.parquet            one row a change of a component's state

The last three are there where there is anything in them.

The same run written twice gives the same bytes, unless the caller passes a time. A folder appears whole or not at all:
it is written beside its place and then renamed.

Leaves out: the report (a caller passes it as an extra file).
Checked: tests/test_runfolder.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..engine.errors import CoordsimError
from .frames import frame, incidents_table, spans_table, strikes_table, tasks_table, turns_table
from .replicate import Run
from .summary import Summary, SummaryError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

VERSION = 1
KEY = "coordsim_run"
MANIFEST, SCENARIO, SUMMARY = "manifest.json", "scenario.resolved.yaml", "summary.json"
TASKS, SPANS = "tasks.parquet", "spans.parquet"
TROUBLES = {"incidents.parquet": incidents_table, "strikes.parquet": strikes_table, "turns.parquet": turns_table}


class RunFolderError(CoordsimError):
    """A run folder that cannot be written or read: what is wrong, and what to do."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a run came from, as far as it is to be written down: the command line, and a time if there shall be one.

    `interrupted` tells that the user stopped it, and only the replications that were complete are here.
    `scenario_sha256` identifies the scenario where its text does not: files it names lie elsewhere on another machine.
    """

    command: str = ""
    created: str | None = None
    interrupted: bool = False
    scenario_sha256: str = ""


@dataclass(frozen=True, slots=True)
class RunFolder:
    """A run that was read; its tables are read when asked for."""

    path: Path
    manifest: dict[str, Any]
    summary: Summary

    @property
    def scenario(self) -> str:
        """The text of the resolved scenario."""
        return _text(self.path / SCENARIO)

    @property
    def has_spans(self) -> bool:
        """Whether spans were kept."""
        return (self.path / SPANS).exists()

    def tasks(self) -> pd.DataFrame:
        """Read the tasks of all replications."""
        return _frame(self.path / TASKS)

    def spans(self) -> pd.DataFrame:
        """Read the spans; RunFolderError when none were kept."""
        if not self.has_spans:
            raise RunFolderError(f"{self.path} holds no spans; run the scenario with `--spans sampled`")
        return _frame(self.path / SPANS)

    def incidents(self) -> pd.DataFrame | None:
        """Read the tasks that something went wrong for; None where there were none, as below."""
        return self._told("incidents.parquet")

    def strikes(self) -> pd.DataFrame | None:
        """Read the first strikes of each cause."""
        return self._told("strikes.parquet")

    def turns(self) -> pd.DataFrame | None:
        """Read the changes of components' states."""
        return self._told("turns.parquet")

    def _told(self, name: str) -> pd.DataFrame | None:
        return _frame(self.path / name) if (self.path / name).exists() else None


def write(
    run: Run,
    scenario_yaml: str,
    directory: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    source: Source | None = None,
    extra: Mapping[str, str | bytes] | None = None,
) -> Path:
    """Write the run to `directory` and return its path; `extra` holds more files by name, such as a report.

    Raises RunFolderError when something is there already: a run folder is replaced only with `overwrite`, and anything
    else never.
    """
    target = Path(directory)
    check_free(target, overwrite)
    temporary: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        temporary.chmod(0o777 & ~_umask())
        _fill(temporary, run, scenario_yaml, source or Source(), extra or {})
        _put(temporary, target)
    except OSError as error:
        raise RunFolderError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
    return target


def read(directory: str | os.PathLike[str]) -> RunFolder:
    """Read a run folder's manifest and summary. Raises RunFolderError when it is not one, damaged, or newer."""
    path = Path(directory)
    if not path.is_dir():
        what = "is not a folder" if path.exists() else "does not exist"
        raise RunFolderError(f"{path} {what}; a run folder is made by `coordsim run SCENARIO -o {path}`")
    if not (path / MANIFEST).exists():
        raise RunFolderError(
            f"{path} is not a run folder: it has no {MANIFEST}; one is made by `coordsim run SCENARIO -o DIR`"
        )
    manifest = _json(path / MANIFEST)
    version = manifest.get(KEY) if isinstance(manifest, dict) else None
    if not isinstance(manifest, dict) or not isinstance(version, int) or version < 1:
        raise RunFolderError(f"{path} is not a run folder: its {MANIFEST} does not say `{KEY}: {VERSION}`")
    if version > VERSION:
        raise RunFolderError(
            f"{path} has version {version} of the format, and this coordsim reads up to {VERSION}; "
            "install a newer coordsim"
        )
    try:
        return RunFolder(path, manifest, Summary.from_dict(_json(path / SUMMARY)))
    except SummaryError as error:
        raise RunFolderError(f"{path / SUMMARY}: {error}") from error


def manifest(run: Run, scenario_yaml: str, source: Source) -> dict[str, Any]:
    """Return what the manifest says of a run."""
    summary = run.summary
    said: dict[str, Any] = {
        KEY: VERSION,
        "scenario": summary.scenario,
        "scenario_sha256": source.scenario_sha256 or hashlib.sha256(scenario_yaml.encode()).hexdigest(),
        "seed": summary.seed,
        "replications": summary.replications,
        "events": sum(result.events for result in run.results),
        "versions": {
            "coordsim": _coordsim_version(),
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("numpy", "simpy")},
        },
        "command": source.command,
    }
    said |= {"interrupted": True} if source.interrupted else {}
    return said if source.created is None else said | {"created": source.created}


def _coordsim_version() -> str:
    try:
        return metadata.version("coordsim")
    except metadata.PackageNotFoundError:
        return "not installed"


def check_free(target: Path, overwrite: bool) -> None:
    """Raise RunFolderError unless a run may be written to `target`."""
    if not target.exists() and not target.is_symlink():
        return
    if target.is_symlink() or not target.is_dir():
        raise RunFolderError(f"{target} exists and is not a folder; choose another place with -o")
    if not any(target.iterdir()):
        return
    if not (target / MANIFEST).is_file() or KEY not in _text(target / MANIFEST):
        raise RunFolderError(f"{target} holds files and is not a run folder; choose another place with -o")
    if not overwrite:
        raise RunFolderError(f"{target} holds a run already; choose another place with -o, or pass --overwrite")


def _fill(folder: Path, run: Run, scenario_yaml: str, source: Source, extra: Mapping[str, str | bytes]) -> None:
    own = {MANIFEST, SCENARIO, SUMMARY, TASKS, SPANS, *TROUBLES}
    wrong = sorted(name for name in extra if name in own or Path(name).name != name)
    if wrong:
        raise ValueError(f"`extra` must hold plain file names beside {sorted(own)}, but got {wrong}")
    _dump(folder / MANIFEST, manifest(run, scenario_yaml, source))
    (folder / SCENARIO).write_text(scenario_yaml, encoding="utf-8", newline="\n")
    _dump(folder / SUMMARY, run.summary.to_dict())
    _save(folder / TASKS, tasks_table(run.results))
    if any(result.spans for result in run.results):
        _save(folder / SPANS, spans_table(run.results))
    for name, made in TROUBLES.items():
        table = made(run.results)
        if len(table):
            _save(folder / name, table)
    for name, content in extra.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def _put(temporary: Path, target: Path) -> None:
    """Rename the new folder to its place; an old one is moved aside first, and back if that fails."""
    if not target.exists():
        temporary.rename(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        target.rename(aside / "old")
        try:
            temporary.rename(target)
        except BaseException:
            (aside / "old").rename(target)
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _dump(path: Path, data: object) -> None:
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8", newline="\n")


def _save(path: Path, table: pa.Table) -> None:
    from pyarrow import parquet

    parquet.write_table(table, path, compression="zstd")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RunFolderError(f"{path} is missing; run the scenario again") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RunFolderError(f"{path} cannot be read: {error}") from error


def _json(path: Path) -> object:
    text = _text(path)
    try:
        data: object = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise RunFolderError(f"{path} is damaged: {error}; run the scenario again") from error
    return data


def _frame(path: Path) -> pd.DataFrame:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return frame(parquet.read_table(path))
    except FileNotFoundError as error:
        raise RunFolderError(f"{path} is missing; run the scenario again") from error
    except (OSError, pa.ArrowException) as error:
        raise RunFolderError(f"{path} is damaged: {error}; run the scenario again") from error


def _umask() -> int:
    """Return the mask of new files' rights, which the system only tells when it is set."""
    mask = os.umask(0)
    os.umask(mask)
    return mask

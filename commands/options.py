"""Options that several commands have, and how each of them ends.

Leaves out: what a command does.
Checked: tests/test_cli.py, and the tests of each command.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from ..sim.report.terminal import Format, again, say, warn

if TYPE_CHECKING:
    from ..models.scenario import Scenario
    from ..sim.analysis.jobs import Workers
    from ..sim.analysis.journal import FileJournal
    from ..sim.report.answers import Answers

INVALID, MISSED, INCONCLUSIVE, INTERRUPTED = 2, 3, 4, 130

T = TypeVar("T")


class BackendName(StrEnum):
    """Where replications run."""

    LOCAL = "local"
    DASK = "dask"
    RAY = "ray"


ScenarioName = Annotated[
    str, typer.Argument(metavar="SCENARIO", help="A YAML file, or a scenario that ships, by name.")
]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="PATH=VALUE", help="Replace a value, as in `models.llm.replicas=4`; null deletes."),
]
Seed = Annotated[int | None, typer.Option(min=0, help="The seed, in place of the scenario's.")]
Tasks = Annotated[int | None, typer.Option(min=1, help="End a run by number of tasks.")]
Horizon = Annotated[str | None, typer.Option(metavar="TIME", help="End a run by time, such as 1h.")]
Processes = Annotated[
    int | None, typer.Option("--workers", min=1, help="Processes; numbers do not depend on it. Default: the cores.")
]
Backend = Annotated[BackendName, typer.Option(help="Where they are: here, or on a cluster.")]
Scheduler = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Of a Dask scheduler, such as tcp://host:8786; none: one here.")
]
FormatOption = Annotated[Format, typer.Option("--format", help="How stdout is written.")]
Out = Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="Write the answer here.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier call wrote.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with what an interrupted call left in -o DIR.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")]


def workers_of(count: int | None, backend: BackendName, scheduler: str | None) -> Workers:
    """Return who runs the jobs: on this machine as many processes as there are cores, unless told."""
    from ..sim.analysis.jobs import Workers
    from ..sim.report.doctor import cores

    if scheduler is not None and backend is not BackendName.DASK:
        raise typer.BadParameter("goes with `--backend dask`", param_hint="--scheduler")
    if count is None and scheduler is None:
        count = cores()
    return Workers(count, backend.value, scheduler)


def check_resumed(resume: bool, out: Path | None) -> None:
    """Raise BadParameter where there is nothing to go on with."""
    if resume and out is None:
        raise typer.BadParameter("goes with `-o DIR`, where the interrupted call wrote", param_hint="--resume")


def interrupted(told: object, out: Path | None, context: typer.Context) -> typer.Exit:
    """Say how far it came, and the command that goes on; return the exit."""
    if out is None:
        return typer.Exit(say(f"{told}; nothing is kept: with `-o DIR` it would be", INTERRUPTED))
    words = [one for one in context.obj or () if one not in ("--resume", "--overwrite")]
    return typer.Exit(say(f"{told}; go on with: {shlex.join(['coordsim', *words, '--resume'])}", INTERRUPTED))


@dataclass(frozen=True)
class Output:
    """Where an answer goes, as the options say; `given` are all words of the command."""

    format: Format
    out: Path | None
    overwrite: bool
    quiet: bool
    given: Sequence[str]

    def check_free(self, answers: Answers[T]) -> None:
        """Raise FileError unless the folder may be written to: better now than after an hour."""
        if self.out is not None:
            answers.check_free(self.out, self.overwrite)

    @contextmanager
    def journal(self, answers: Answers[T], asked: Mapping[str, Any], resume: bool) -> Iterator[FileJournal | None]:
        """Take the folder, and give the journal of what is complete; None where nothing is written."""
        if self.out is None:
            yield None
            return
        with answers.journal(self.out, asked, resume=resume, overwrite=self.overwrite) as journal:
            yield journal

    def put(
        self,
        answers: Answers[T],
        found: T,
        scenario: Scenario,
        *,
        warnings: Iterable[str],
        called: str,
        sets: Sequence[str] | None = None,
        taken: bool = False,
        beside: Mapping[str, Scenario] | None = None,
    ) -> None:
        """Print what was found, then what is doubtful, and write both if asked; `called` is how the user named the scenario.

        `taken`: the folder is ours, by `journal`. `beside` are the other scenarios that it is about, by the names of their files.
        """
        answers.put(found, self.format)
        warn(warnings, again(called, sets))
        if self.out is not None:
            from ..models.provenance import canonical, provenance

            if not taken:
                answers.check_free(self.out, self.overwrite)
            others = beside or {}
            files = {
                "scenario.resolved.yaml": scenario.to_yaml(),
                **{name: one.to_yaml() for name, one in others.items()},
            }
            source = provenance(scenario, canonical(self.given), others.values(), found)
            answers.write(found, source, files, self.out, overwrite=taken or self.overwrite)
            if not self.quiet:
                say(f"written to {self.out}")

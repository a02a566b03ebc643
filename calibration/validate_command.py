"""The command `coordsim validate`.

Exit codes: 0 the prediction passes, 3 it fails, 4 neither can be told; 2 wrong options, a missing package, or a file that cannot be read; 130
interrupted: what was measured is in the folder, and `--resume` goes on.

Leaves out: what it does: `validation` measures and predicts, `sim.analysis.validation_judge` judges.
Checked: tests/test_validate_command.py.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..sim.report.terminal import Format, say, steps_bar, warn
from .budget import seconds_of

if TYPE_CHECKING:
    from ..sim.analysis.validation import Verdict
    from ..sim.report.page.provenance import Provenance
    from ..sim.report.progress import Steps
    from .validation.protocol import Bench, Progress
    from .validation.replay import Replay
    from .validation.session import Session

__all__ = ["validate"]

INVALID, INTERRUPTED = 2, 130
CODES = {"pass": 0, "fail": 3, "inconclusive": 4}
SESSION = "session.json"
MEASURES = ("budget", "configurations", "rounds", "seed", "device", "resume")  # options that a replay has no use for


def validate(
    context: typer.Context,
    *,
    budget: Annotated[str, typer.Option(metavar="TIME", help="How long to measure and predict, such as 10m.")] = "10m",
    configurations: Annotated[int, typer.Option(min=1, help="How many, drawn by the seed.")] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="At least so many; more while the verdict is open.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Of configurations, their order, and predictions.")] = 0,
    out: Annotated[Path | None, typer.Option("-o", "--out", metavar="DIR", help="Write session and verdict.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what an earlier call wrote.")] = False,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the session in -o DIR.")] = False,
    recorded: Annotated[
        str | None,
        typer.Option(
            "--replay", metavar="FILE|NAME", help="Judge a recorded session, a file or one that ships; measure nothing."
        ),
    ] = None,
    device: Annotated[str, typer.Option(metavar="auto|cuda|cpu", help="Where the models run.")] = "auto",
    format: Annotated[Format, typer.Option("--format", help="How stdout is written.")] = Format.TABLE,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
) -> None:
    """Run a small real agent system on this machine, predict it from its calibration, and say how well that went."""
    from ..sim.report.validation_answers import ANSWERS
    from .validation.replay import Replay

    if device not in ("auto", "cuda", "cpu"):
        raise typer.BadParameter(f"must be auto, cuda or cpu; got `{device}`", param_hint="--device")
    judging = Replay()
    if recorded is None:
        wanted = _Wanted(_seconds(budget, configurations, rounds), configurations, rounds, seed, device)
        session, verdict = _measured(wanted, _Folder(out, overwrite, resume), judging, context, quiet)
    else:
        session, verdict = _replayed(recorded, _Folder(out, overwrite), judging, context, quiet)
    ANSWERS.put(verdict, format)
    warn(verdict.doubts, "")
    if out is not None:
        scenarios = _scenarios(session)
        ANSWERS.write(verdict, _source(session, context), scenarios, out, overwrite=True)
        if not quiet:
            first = shlex.quote(str(out / next(iter(scenarios))))
            say(f"written to {out}; the scenario of one prediction runs with\n  coordsim run {first}")
    raise typer.Exit(CODES[verdict.status])


# ---------------------------------------------------------------------------------------------------------------------
# Where it goes


@dataclass(frozen=True)
class _Folder:
    """Where a session is kept while it is measured, and its verdict comes to stand; nowhere without a path."""

    path: Path | None
    overwrite: bool = False
    resume: bool = False

    def resumed(self) -> Session | None:
        """Return the session to go on with; None where a new one begins. Raises FileError unless that may be written."""
        from ..sim.report.files import FileError
        from ..sim.report.validation_answers import ANSWERS
        from .validation.session import read

        if self.path is None:
            if self.resume:
                raise typer.BadParameter("goes with `-o DIR`, where the interrupted call wrote", param_hint="--resume")
            return None
        file = self.path / SESSION
        if self.resume:
            if self.overwrite:
                raise typer.BadParameter(
                    "goes on with a session, and --overwrite starts anew; give one of them", param_hint="--resume"
                )
            if not file.exists():
                raise typer.BadParameter(f"there is nothing to go on from: no {file}", param_hint="--resume")
            return read(file)
        if not file.exists():
            ANSWERS.check_free(self.path, self.overwrite)
        elif not self.overwrite:
            raise FileError(
                f"{self.path} holds a validation; go on with it by --resume, choose another place with -o, or pass --overwrite"
            )
        return None

    def begin(self, session: Session) -> None:
        """Write a session in place of what an earlier one left, or go on with that."""
        from ..sim.report.validation_answers import ANSWERS

        if self.path is not None and not self.resume:
            ANSWERS.clear(self.path)
            for old in self.path.glob("cells/r*-c*.yaml"):
                old.unlink()
        self.keep(session)

    def keep(self, session: Session) -> None:
        """Write the session as it is now."""
        from .validation.session import write

        if self.path is not None:
            write(self.path / SESSION, session, overwrite=True)


def _scenarios(session: Session) -> dict[str, str]:
    """Return the frozen scenario of each cell as YAML, by file name."""
    from ..models.scenario import as_yaml
    from .validation import predict

    return {
        f"cells/r{cell.round}-{cell.configuration}.yaml": as_yaml(
            predict.scenario(session.configuration(cell.configuration), cell.laws)
        )
        for cell in session.cells
    }


def _source(session: Session, context: typer.Context) -> Provenance:
    """Return where the verdict comes from, for its report; its hash is of all frozen models."""
    from hashlib import sha256

    from ..models.provenance import canonical, versions
    from ..sim.report.page.provenance import Input, Provenance
    from .environment import machine_of

    machine = machine_of(session.environment)
    return Provenance(
        scenario="validation",
        question="How well does coordsim predict a real agent system on this machine?",
        sha256=sha256(" ".join(cell.model for cell in session.cells).encode()).hexdigest(),
        seed=session.seed,
        command=canonical(context.obj or ()),
        versions=versions(),
        inputs=(Input(SESSION, "measured", f"{machine}, {session.started}"),),
        data=(SESSION,),
    )


# ---------------------------------------------------------------------------------------------------------------------
# Measuring


@dataclass(frozen=True)
class _Wanted:
    """What is to be measured; `budget` in seconds."""

    budget: float
    configurations: int
    rounds: int
    seed: int
    device: str


def _measured(
    wanted: _Wanted, folder: _Folder, judging: Replay, context: typer.Context, quiet: bool
) -> tuple[Session, Verdict]:
    """Measure, and return the session with its verdict; when interrupted, say how to go on and exit."""
    begun = _clock()
    old = folder.resumed()
    from .calibrate import choose_device

    device = choose_device(wanted.device)
    session = _begun(wanted, old, device)
    latest = [session]

    def keep(session: Session) -> None:
        latest[0] = session
        folder.keep(session)

    try:
        with steps_bar(quiet) as bar:
            with ExitStack() as stack:
                bench = _opened(stack, device)
                folder.begin(session)
                session = _rounds(session, wanted, bench, judging, begun, keep, bar)
            return session, judging.final(session, bar and bar.predicting)
    except KeyboardInterrupt:
        raise typer.Exit(_interrupted(latest[0], wanted, folder, context)) from None


def _begun(wanted: _Wanted, old: Session | None, device: str) -> Session:
    """Return the session to measure: a new one, or the old if it is of this machine, seed and number of configurations."""
    from ..sim.engine.errors import Problem
    from .coordination.servers import cores
    from .environment import environment, fingerprint
    from .validation.configurations import generate
    from .validation.predict import load
    from .validation.session import Session, SessionError

    machine = environment(device)
    if old is None:
        chosen = generate(wanted.configurations, wanted.seed, load, cores())
        return Session(
            seed=wanted.seed, started=_now(), environment=machine, configurations=chosen, budget=wanted.budget
        )
    problems = [
        Problem("", f"was begun with --{name} {was}; go on with that, or begin another with --overwrite")
        for name, was, now in (
            ("seed", old.seed, wanted.seed),
            ("configurations", len(old.configurations), wanted.configurations),
        )
        if was != now
    ]
    if fingerprint(old.environment) != fingerprint(machine):
        problems.append(Problem("", "is of another machine, or of other software; begin another with --overwrite"))
    if problems:
        raise SessionError(problems, "the session in -o DIR")
    return old.model_copy(update={"budget": wanted.budget})


def _opened(stack: ExitStack, device: str) -> Bench:
    """Return the running system. Exits where a package is missing."""
    from .validation import bench

    try:
        return stack.enter_context(bench.open_system(device))
    except ImportError as error:
        say(f"validate runs a real system, which needs {error.name or error}; try `pip install 'coordsim[calibrate]'`")
        raise typer.Exit(INVALID) from None
    except NotImplementedError as error:
        say(f"validate cannot measure here: {error}; a recorded session can be judged anywhere with --replay FILE")
        raise typer.Exit(INVALID) from None


def _rounds(
    session: Session,
    wanted: _Wanted,
    bench: Bench,
    judging: Replay,
    begun: float,
    keep: Callable[[Session], None],
    bar: Steps | None,
) -> Session:
    """Measure all rounds."""
    from .validation.predict import frozen
    from .validation.protocol import Measuring

    def tell(progress: Progress) -> None:
        if bar is not None:
            bar.measuring(replace(progress, case=f"{progress.case}{_so_far(progress.verdict)}"))

    measuring = Measuring(bench, judging, frozen, begun, wanted.rounds, keep, tell, _clock)
    return measuring.measure(session)


def _so_far(verdict: Verdict | None) -> str:
    """Return how far off p50 is so far, with its interval."""
    from ..sim.analysis.validation_judge import size

    if verdict is None:
        return ""
    error = verdict.headline("p50").error
    return f"; p50 off by {size('p50', error.value)} [{size('p50', error.low)}, {size('p50', error.high)}]"


def _interrupted(session: Session, wanted: _Wanted, folder: _Folder, context: typer.Context) -> int:
    """Say how far it came and how to go on; return the exit code."""
    done = f"interrupted; {len(session.cells)} cells are measured of {wanted.rounds * len(session.configurations)}"
    if folder.path is None:
        return say(f"{done}; nothing is kept: with `-o DIR` it would be", INTERRUPTED)
    if not session.cells:
        return say(done, INTERRUPTED)
    words = [word for word in context.obj or () if word not in ("--resume", "--overwrite")]
    return say(f"{done}; go on with: {shlex.join(['coordsim', *words, '--resume'])}", INTERRUPTED)


# ---------------------------------------------------------------------------------------------------------------------
# A recorded session


def _replayed(
    recorded: str, folder: _Folder, judging: Replay, context: typer.Context, quiet: bool
) -> tuple[Session, Verdict]:
    """Return a recorded session with its verdict."""
    for name in MEASURES:
        source = context.get_parameter_source(name)
        if source is not None and source.name != "DEFAULT":
            raise typer.BadParameter(
                "goes with measuring, and --replay measures nothing; give one of them", param_hint=f"--{name}"
            )
    from .validation.session import find, read

    folder.resumed()
    session = read(find(recorded))
    with steps_bar(quiet) as bar:
        verdict = judging.final(session, bar and bar.predicting)
    folder.begin(session)
    return session, verdict


def _seconds(budget: str, configurations: int, rounds: int) -> float:
    """Return the budget. Raises BadParameter where it is none, or too short for so many cells."""
    from ..sim.engine import units
    from .validation.protocol import least_budget

    found, least = seconds_of(budget), least_budget(configurations, rounds)
    if found < least:
        raise typer.BadParameter(
            f"{configurations} configurations in {rounds} rounds take at least {units.format(least, units.DURATION, 2)}; got `{budget}`; "
            "give more, or fewer --configurations",
            param_hint="--budget",
        )
    return found


def _now() -> str:
    """Return date and time."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _clock() -> float:
    """Return the seconds that the budget counts."""
    return time.monotonic()

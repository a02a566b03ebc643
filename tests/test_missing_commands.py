"""What the reports of comparisons, sweeps, sensitivities and studies of faults say is missing has a command that runs."""

import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

import coordsim as cs
from coordsim.cli import app
from coordsim.sim.report.page.provenance import Provenance
from coordsim.sim.report.sections.asked import asked
from coordsim.sim.report.sections.every import everything, parts_of
from coordsim.sim.report.sections.further import about, repeat
from coordsim.sim.report.stored import read
from coordsim.whatif import Answer

from .command import Call

TEXT = """\
coordsim: 1
name: shop
seed: 3
replications: 1
runtime: stateless-api
workload: {arrivals: {poisson: 2 / s}, tasks: 12, warmup: 0 s}
agents: {clerk: {model: llm, prompt: 10 tokens, output: 10 tokens}}
models: {llm: {kind: llm, replicas: 1, concurrency: 2, prefill: 0 s / token, decode: 10 ms / token}}
tools:
  find: {latency: 50 ms, handling: {timeout: 2 s, retry: {attempts: 2, backoff: {first: 100 ms}}}}
  pay: {latency: 80 ms}
faults: {declined: {on: tools.find, error: 20 %}}
workflow: {start: work, steps: {work: {agent: clerk, tools: {find: 1, pay: 1}, repeat: 3}}}
slo: {p95: 1 s}
"""
QUIET = ("--workers", "1", "--quiet")
# Enough for an answer; the last of two options of one name counts.
SMALL = {
    "compare": ("--tasks", "12"),
    "scaling": ("--tasks", "12", "--replications", "2"),
    "sensitivity": ("--tasks", "12", "--replications", "2"),
    "faults": ("--tasks", "12", "--replications", "2"),
}
SIZES = {"morris": ("--trajectories", "2"), "sobol": ("--points", "2")}


@pytest.mark.parametrize(
    ("asked", "adds"),
    [
        ("compare shop.yaml --runtime stateless-api --runtime agent-native --no-ablate", {"--ablate", "--over", "--replications"}),
        ("compare shop.yaml --set tools.pay.latency='90 ms' --with tools.find.latency='60 ms'", {"--over", "--replications"}),
        ("scaling shop.yaml --over steps=1,2 --no-ablation", {"--over", "--ablation", "--replications"}),
        ("scaling shop.yaml --over models.llm.replicas=1..4", {"--over", "--replications"}),
        ("sensitivity shop.yaml --factor find --factor pay --factor llm", {"--method", "--factor", "--replications"}),
        ("sensitivity shop.yaml --factor find --factor pay --method sobol --points 2", {"--method", "--points"}),
        ("faults shop.yaml --set tools.pay.latency='90 ms'", {"--rise", "--handling", "--replications"}),
        ("faults shop.yaml --rise load --levels 0.5,1", {"--handling", "--replications"}),
    ],
)  # fmt: skip
def test_what_is_missing_has_a_command_that_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call, asked: str, adds: set[str]
) -> None:
    """Each command keeps what the answer's replaced, and runs: it answers, or says what it is not sure of."""
    monkeypatch.chdir(tmp_path)
    Path("shop.yaml").write_text(TEXT)
    assert call(*shlex.split(asked), *QUIET, "-o", "out").code in (0, 4)
    stored = read(tmp_path / "out")
    said = sorted({one.command for part in parts_of(stored) for one in part.missing})
    words = [shlex.split(one)[1:] for one in said]
    assert adds <= {word for one in words for word in one}
    kept = [word for place, word in enumerate(shlex.split(asked)) if shlex.split(asked)[place - 1] == "--set"]
    for one in words:
        assert [word for place, word in enumerate(one) if one[place - 1] == "--set"] == kept
        size = next((more for name, more in SIZES.items() if name in one), ())
        done = call(*one, *SMALL[one[0]], *size, *QUIET)
        assert done.code in (0, 4), f"{shlex.join(one)}: {done.err}"


def opened(command: str) -> dict[str, Any]:
    """Return what the command line reads from a command, which does not run."""
    words = shlex.split(command)
    assert words[0] == "coordsim"
    group = typer.main.get_command(app)
    context = group.make_context("coordsim", words[1:], resilient_parsing=False)
    name, found, rest = group.resolve_command(context, words[1:])  # type: ignore[attr-defined]
    given: dict[str, Any] = found.make_context(name, rest, parent=context).params
    return given


def mine(file: str) -> cs.Scenario:
    """Return the scenario in a file, with two values replaced."""
    return cs.load(file).replace("question", 'is it\'s "x"').replace("tools.pay.latency", "90 ms")


ASKED: dict[str, Callable[[cs.Scenario], Answer[Any]]] = {
    "run": lambda one: cs.simulate(one, seed=7, replications=1),
    "sweep": lambda one: cs.sweep(one, {"models.llm.replicas": [1, 2], "workload.arrivals.poisson": ["1 / s", "2 / s"]}, replications=2),
    "plan": lambda one: cs.plan(one, decide={"models.llm.replicas": "1..2"}, max_replications=5),
    "compare": lambda one: cs.compare(one, "stateless-api", "agent-native", ablate=False, replications=1),
    "compare with changes": lambda one: cs.compare(one, changes={"tools.find.latency": "60 ms"}, replications=1),
    "compare two": lambda one: cs.compare(one, mine("of/other.yaml"), replications=1),
    "scaling": lambda one: cs.scaling(one, "steps=1,2", ablate=False, replications=1),
    "sensitivity": lambda one: cs.sensitivity(one, ["find", "pay"], replications=1),
    "faults": lambda one: cs.faults(one, replications=1),
}  # fmt: skip


@pytest.mark.parametrize("asked_of", ASKED)
def test_an_answer_from_python_has_commands_about_its_scenario(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, asked_of: str
) -> None:
    """Each is read by the command line, names the file in place of the scenario's name, and sets what was replaced, quotes and all."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "of").mkdir()
    Path("of/mine.yaml").write_text(TEXT)
    Path("of/other.yaml").write_text(TEXT.replace("name: shop", "name: other").replace("replicas: 1", "replicas: 2"))
    stored = ASKED[asked_of](mine("of/mine.yaml"))._stored()
    said = [one.command for _, part in everything([stored]) for one in part.missing]
    assert said
    for one in said:
        given = opened(one)
        named = given.get("scenario") or given["scenarios"][0]
        assert str(named) == "of/mine.yaml", one
        assert {"tools.pay.latency=90 ms", 'question=is it\'s "x"'} <= set(given["sets"]), one
        if shlex.split(one)[1] == "compare":
            assert len(given["runtimes"] or ()) == 2 or given["changes"] or given["other"], one
        if shlex.split(one)[1] == "scaling":
            assert given["over"], one


def of(command: str) -> Provenance:
    """Return the source of an answer that a command gave."""
    return Provenance("rag", "", "", 1, command, {})


def test_a_command_is_read_wherever_its_options_stand() -> None:
    """The scenario may come after options, and `--set` with an equals sign; what is no command at all names the scenario alone."""
    one = of("coordsim compare --seed 3 --no-ablate 'my a.yaml' b.yaml --set=x=1 --set y=2")
    assert asked(one).names == ("my a.yaml", "b.yaml")
    assert about("run", one) == "coordsim run 'my a.yaml' --set x=1 --set y=2 --seed 3"
    for broken in ("coordsim run 'a", "coordsim.simulate(", "", "1 + 1", "coordsim.simulate()"):
        assert about("run", of(broken)) == "coordsim run rag"
        assert repeat("run", of(broken), "--replications", "10") == "coordsim run rag --replications 10"


@pytest.mark.parametrize(
    ("call", "more", "said"),
    [
        ("plan(coordsim.load('a'), load={'growth': {'rate': '10 %'}})", ("--max-replications", "9"),
         "plan(coordsim.load('a'), load={'growth': {'rate': '10 %'}}, max_replications=9)"),
        ("compare(coordsim.load('a'), b=coordsim.load('a').replace('seed', '2'))", ("--replications", "5", "--ablate"),
         "compare(coordsim.load('a'), b=coordsim.load('a').replace('seed', '2'), replications=5, ablate=True)"),
        ("sweep([coordsim.load('a'), coordsim.load('b').replace('seed', '2')])", ("--set", "slo={p95: 2 s}"),
         "sweep([coordsim.load('a').replace('slo', '{p95: 2 s}'), coordsim.load('b').replace('seed', '2').replace('slo', '{p95: 2 s}')])"),
        ("sensitivity(coordsim.load('a'), factors=['x'], by=...)", ("--method", "sobol", "--factor", "y", "--points", "8"),
         "sensitivity(coordsim.load('a'), factors={'y': ''}, by=..., method='sobol', size=8)"),
    ],
)  # fmt: skip
def test_what_no_option_says_is_a_call_in_python(call: str, more: tuple[str, ...], said: str) -> None:
    """With what is missing as arguments; a command about its scenario alone is still one."""
    source = of(f"coordsim.{call}")
    assert repeat(call.partition("(")[0], source, *more) == f"coordsim.{said}"
    assert about("run", source) == "coordsim run a"


@pytest.mark.parametrize(
    ("call", "said"),
    [
        ("compare(coordsim.load('a'), b='x', variant='y', paired=False, tolerance=0.05)", "compare a --runtime x --runtime y --unpaired --tolerance 0.05"),
        ("compare(coordsim.load('a'), b=coordsim.load('b'), over={'k': [1, 2]}, ablate=True)", "compare a b --over k=1,2 --ablate"),
        ("sweep([coordsim.load('a'), coordsim.load('b')], over={'k': '1..4'}, seeds=[1, 2], metrics=['p95'])", "sweep a b --over k=1..4 --seeds 1,2 --metric p95"),
        ("scaling(coordsim.load('a'), over=['steps=1,2', 'agents=1,2'], ablate=True)", "scaling a --over steps=1,2 --over agents=1,2"),
        ("sensitivity(coordsim.load('a'), factors={'x': '±20 %', 'y': ''}, method='morris', size=4)", "sensitivity a --trajectories 4 --factor 'x=±20 %' --factor y --method morris"),
        ("plan(coordsim.load('a'), decide={'r': range(1, 4)}, slo={'p95': '2 s'})", "plan a --decide r=1,2,3 --slo 'p95=2 s'"),
        ("faults(coordsim.load('a'), handling=True, rise='load')", "faults a --handling --rise load"),
    ],
)  # fmt: skip
def test_a_call_is_told_as_its_command(call: str, said: str) -> None:
    """All its arguments are options, which the command line reads."""
    command = repeat(call.partition("(")[0], of(f"coordsim.{call}"))
    assert command == f"coordsim {said}"
    assert opened(command)

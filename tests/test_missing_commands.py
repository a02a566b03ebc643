"""What the reports of comparisons, sweeps, sensitivities and studies of faults say is missing has a command that runs."""

import shlex
from pathlib import Path

import pytest

from coordsim.sim.report.sections.every import parts_of
from coordsim.sim.report.stored import read

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

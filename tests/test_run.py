"""`run` in Python is `coordsim run` at the command: the same numbers."""

import json
from pathlib import Path

import pytest

import coordsim as cs
from coordsim.cli import main


def test_python_and_the_command_give_the_same_numbers(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The summary of `cs.run` is the JSON of the command."""
    path = root / "scenarios" / "quickstart.yaml"
    scenario = cs.load(path).replace("workload.tasks", 100)
    summary = cs.run(scenario, replications=2).summary.to_dict()
    options = ["--set", "workload.tasks=100", "--replications", "2", "--workers", "1", "--format", "json", "--quiet"]
    assert main(["run", str(path), *options]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["metrics"]["response_time_mean"]["value"] == summary["metrics"]["response_time_mean"]["value"]
    assert told["categories"] == json.loads(json.dumps(summary["categories"]))


def test_another_seed_gives_other_numbers(root: Path) -> None:
    """0 is a seed like any other."""
    scenario = cs.load(root / "scenarios" / "theory" / "mm1.yaml").replace("workload.tasks", 50)
    means = {seed: cs.run(scenario, seed=seed, replications=1).results[0].response_times.mean() for seed in (0, 1)}
    assert means[0] != means[1]

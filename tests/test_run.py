"""`simulate` in Python is `coordsim run` at the command: the same numbers."""

import json
from pathlib import Path
from typing import Any

import pytest

import coordsim as cs
from coordsim.cli import main


def test_python_and_the_command_give_the_same_numbers(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The estimates of `cs.simulate` are the JSON of the command."""
    path = root / "scenarios" / "quickstart.yaml"
    estimates = cs.simulate(cs.load(path).replace("workload.tasks", 100), replications=2).estimates.to_dict()
    options = ["--set", "workload.tasks=100", "--replications", "2", "--workers", "1", "--format", "json", "--quiet"]
    assert main(["run", str(path), *options]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == json.loads(json.dumps(estimates))


def test_another_seed_gives_other_numbers(root: Path) -> None:
    """0 is a seed like any other."""
    scenario = cs.load(root / "scenarios" / "theory" / "mm1.yaml").replace("workload.tasks", 50)
    means = {seed: cs.simulate(scenario, seed, replications=1).results[0].response_times.mean() for seed in (0, 1)}
    assert means[0] != means[1]


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"seed": -1}, "`seed` must be a whole number of 0 or more, but got -1"),
        ({"seed": True}, "`seed` must be a whole number"),
        ({"replications": 0}, "`replications` must be at least 1"),
        ({"replications": "many"}, "`replications` must be a whole number or 'auto', but got 'many'"),
        ({"precision": -0.1}, "`precision` must be a share above 0"),
        ({"workers": 0}, "`workers` must be at least 1"),
        ({"spans": "some"}, "`spans` must be one of all, sampled, none, but got 'some'"),
    ],
)
def test_an_argument_that_cannot_be_says_the_rule(given: dict[str, Any], rule: str) -> None:
    """Nothing runs, and the message names the argument, the rule and what was got."""
    with pytest.raises(ValueError, match=rule):
        cs.simulate(cs.load("quickstart"), **given)

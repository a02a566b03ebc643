"""`scaling` and `faults` in Python: the numbers of the commands, in an answer that is read as the others are."""

import inspect
from pathlib import Path

import pytest

import coordsim as cs

from .command import Call


@pytest.fixture(scope="module")
def grown() -> cs.Scaling:
    """Return a small sweep."""
    return cs.scaling(cs.load("quickstart").replace("workload.tasks", 10), "steps=1..3", replications=2, ablate=False)


@pytest.fixture(scope="module")
def harmed() -> cs.FaultStudy:
    """Return a small study of faults."""
    return cs.faults(cs.load("provider-outage").replace("workload.tasks", 20), replications=2)


def test_a_sweep_is_that_of_the_command(grown: cs.Scaling, call: Call) -> None:
    """Text and table are those that `coordsim scaling` prints."""
    options = ["scaling", "quickstart", "--over", "steps=1..3", "--no-ablation", "--tasks", "10", "--replications", "2"]
    assert grown._csv() == call(*options, "--format", "csv").out
    assert set(grown.to_frame()["x"]) == {1, 2, 3}


def test_a_study_of_faults_is_that_of_the_command(harmed: cs.FaultStudy, call: Call) -> None:
    """Text and table are those that `coordsim faults` prints."""
    options = ["faults", "provider-outage", "--tasks", "20", "--replications", "2"]
    assert harmed._csv() == call(*options, "--format", "csv").out


@pytest.mark.parametrize("name", ["grown", "harmed"])
def test_an_answer_is_read_in_every_way(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """A line, a report, a table, a chart without a button that sends it, and a page."""
    answer = request.getfixturevalue(name)
    assert repr(answer).startswith(type(answer).__name__ + ": ")
    assert answer.summary().splitlines()[0]
    assert not answer.to_frame().empty
    assert "sendDataToCloud" in answer.figure().layout.modebar.remove
    assert answer.save(tmp_path / "one.html").read_text(encoding="utf-8").startswith("<!")


def test_the_call_says_what_repeats_it(grown: cs.Scaling) -> None:
    """A report names the function, the scenario and the options."""
    assert grown.call.startswith("coordsim.scaling(")
    assert "'steps=1..3'" in grown.call


def test_the_functions_have_names_and_signatures() -> None:
    """Help in a notebook shows the arguments and what comes back."""
    for ask, answer in ((cs.scaling, cs.Scaling), (cs.faults, cs.FaultStudy)):
        assert inspect.signature(ask).return_annotation is answer
        assert next(iter(inspect.signature(ask).parameters)) == "scenario"
        assert "Raises" in (ask.__doc__ or "")
    assert (cs.scaling.__name__, cs.faults.__name__) == ("scaling", "faults")


def test_what_is_no_scenario_is_refused() -> None:
    """A name is not loaded by itself."""
    with pytest.raises(TypeError, match="must be a Scenario"):
        cs.faults("retry-storm")  # type: ignore[arg-type]

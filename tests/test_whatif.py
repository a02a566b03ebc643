"""What-if in Python: each question in three lines, and its answer as a table, a text, a chart, HTML and rich."""

import inspect
import io
import pickle
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import coordsim as cs
from coordsim import whatif
from coordsim.cli import main
from coordsim.models import simulate as simulate_model
from coordsim.models.scenario import Scenario
from coordsim.sim.analysis.replicate import Interrupted
from coordsim.sim.engine.errors import CoordsimError
from coordsim.sim.report.html import page, to_html
from coordsim.sim.report.layout import Report, Table
from coordsim.whatif import Answer

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
EVIL = "<script>alert('1')</script> & \"co\""


class Checker(HTMLParser):
    """Holds HTML to be well-formed: what opens closes, in order. Keeps its tags and its text."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open a tag; nothing may point outside."""
        assert not {"src", "href", "onload", "onclick"} & {name for name, _ in attrs}
        self.tags.append(tag)
        self.open += [] if tag == "meta" else [tag]

    def handle_endtag(self, tag: str) -> None:
        """Close the tag that was opened last."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Keep a text, but not the rules of style."""
        self.text += [] if self.open[-1:] == ["style"] else [data]


def parsed(html: str) -> Checker:
    """Return what is in HTML that is well-formed and asks nothing of a network."""
    checker = Checker()
    checker.feed(html)
    checker.close()
    assert checker.open == []
    assert "script" not in checker.tags
    assert not re.search(r"url\(|@import|https?://", html)
    return checker


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    """Return a small scenario."""
    return cs.load("quickstart").replace("workload.tasks", 40)


@pytest.fixture(scope="module")
def simulation(scenario: Scenario) -> whatif.Simulation:
    """Return its simulation."""
    return cs.simulate(scenario, replications=3)


@pytest.fixture(scope="module")
def comparison(scenario: Scenario) -> whatif.Comparison:
    """Return a comparison of two runtimes."""
    return cs.compare(scenario, "external-orchestrator", "session-state", replications=3, ablate=False)


@pytest.fixture(scope="module")
def study(scenario: Scenario) -> whatif.Study:
    """Return a study of four cells."""
    return cs.sweep(scenario, {"models.llm.replicas": [1, 2], "runtime": ["ideal", "stateless-api"]}, replications=2)


@pytest.fixture(scope="module")
def worth(scenario: Scenario) -> whatif.Sensitivity:
    """Return a sensitivity of two factors."""
    return cs.sensitivity(scenario, ["search", "models.llm.decode"], replications=3)


@pytest.fixture(scope="module")
def sizing() -> whatif.CapacityPlan:
    """Return a plan of few configurations."""
    small = cs.load("capacity/mmc").replace_all({"workload.tasks": 600, "workload.warmup": "10 s"})
    return cs.plan(small, decide={"models.server.replicas": "9..15@$2/h"}, max_replications=10)


KINDS = ("simulation", "comparison", "study", "worth", "sizing")


@pytest.fixture(params=KINDS)
def answer(request: pytest.FixtureRequest) -> Answer[Any]:
    """Return each kind of answer."""
    found: Answer[Any] = request.getfixturevalue(request.param)
    return found


# -- every answer


def test_an_answer_is_a_text_that_begins_with_the_command_s_report(answer: Answer[Any]) -> None:
    """The text has the headline and the answer; the one line has the answer alone."""
    text, line = answer.summary(), repr(answer)
    assert line.startswith(f"{type(answer).__name__}: ")
    assert "\n" not in line
    told = line.partition(": ")[2]
    assert told in " ".join(text.split())
    assert len(text.splitlines()) > 10
    assert str(answer) == line


def test_an_answer_is_a_tidy_table(answer: Answer[Any]) -> None:
    """It has a row a number, with a unit, the ends of the interval around the value, and no missing text; a study a row a cell."""
    frame = answer.to_frame()
    if isinstance(answer, whatif.Study):
        names = ("response_time_mean", "response_time_mean_low", "response_time_mean_high")
        frame = frame.rename(columns=dict(zip(names, ("value", "low", "high"), strict=True)))
        assert frame.attrs["units"]["response_time_p95"] == "s"
    else:
        assert "unit" in frame.columns
        assert not frame.select_dtypes(exclude="number").isna().any().any()
    assert len(frame) >= 4
    assert all(pd.api.types.is_numeric_dtype(frame[name]) for name in ("value", "low", "high"))
    known = frame.dropna(subset=["value", "low", "high"])
    assert len(known) >= 3
    tolerance = 1e-9 * known["value"].abs()
    assert (known["low"] <= known["value"] + tolerance).all()
    assert (known["value"] <= known["high"] + tolerance).all()


def test_an_answer_is_a_chart(answer: Answer[Any]) -> None:
    """It has traces with points, is plain JSON, and no button sends it anywhere."""
    figure = answer.figure()
    assert figure.data
    assert any(len(trace.x) for trace in figure.data if trace.x is not None)
    assert "sendDataToCloud" in figure.layout.modebar.remove
    assert '"data":[' in figure.to_json()
    with pytest.raises(ValueError, match="`name` must be one of `"):
        answer.figure("nothing of that name")


def test_an_answer_is_html(answer: Answer[Any]) -> None:
    """The answer comes before the tables, which hold the same cells as the text."""
    html = answer._repr_html_()
    checker = parsed(html)
    assert checker.tags.index("p") < checker.tags.index("table")
    assert repr(answer).partition(": ")[2] in " ".join(" ".join(checker.text).split())
    cells = {cell.strip() for table in answer._report().tables for row in table.rows for cell in row}
    assert cells <= {text.strip() for text in checker.text} | {""}
    parsed(page(html, "A title"))


def test_an_answer_is_shown_by_rich(answer: Answer[Any]) -> None:
    """What rich prints is the report as text, in its own width."""
    from rich.console import Console

    console = Console(width=100, record=True, file=io.StringIO())
    console.print(answer)
    printed = console.export_text()
    for line in answer.summary().splitlines():
        assert line.startswith("WARNING") or line.rstrip()[:99] in printed


def test_an_answer_goes_to_another_process_and_back(answer: Answer[Any]) -> None:
    """It is frozen, and survives pickling."""
    again = pickle.loads(pickle.dumps(answer))
    assert repr(again) == repr(answer)
    pd.testing.assert_frame_equal(again.to_frame(), answer.to_frame())
    with pytest.raises(AttributeError):
        answer.result = None  # type: ignore[misc]


# -- each of them


def test_a_simulation_says_what_the_command_prints(scenario: Scenario, capsys: pytest.CaptureFixture[str]) -> None:
    """Its text is that of `coordsim run`, warnings included."""
    found = cs.simulate(scenario, 3, replications=2)
    options = ["--set", "workload.tasks=40", "--seed", "3", "--replications", "2", "--workers", "1", "--quiet"]
    assert main(["run", "quickstart", *options]) == 0
    told = capsys.readouterr()
    assert found.summary().startswith(told.out)
    warned = told.err.replace("quickstart --set workload.tasks=40", "quickstart").splitlines()
    assert [f"WARNING: {one}" for one in found.warnings] == warned


def test_a_simulation_has_estimates_results_and_tasks(simulation: whatif.Simulation) -> None:
    """Estimates in the table are those of the summary; the tasks are those of all replications."""
    frame = simulation.to_frame().set_index(["metric", "component"])
    mean = simulation.estimates.metrics["response_time_mean"]
    assert frame.loc[("response_time_mean", ""), "value"] == mean.value
    assert frame.loc[("category_mean", "inference"), "low"] == simulation.estimates.categories["inference"].seconds.low
    tasks = simulation.tasks()
    assert len(simulation.results) == tasks["replication"].nunique() == 3
    assert len(tasks) == 120
    parts = [f"{name}_s" for name in simulation.estimates.categories]
    assert np.allclose(tasks[parts].sum(axis=1), tasks["total_s"])


def test_the_charts_of_a_simulation_add_up(simulation: whatif.Simulation) -> None:
    """Bars stand one behind the other and end at T_total; the curve of T_total rises to 1; an icicle has the components."""
    bars = [trace for trace in simulation.figure().data if trace.type == "bar"]
    place = list(bars[0].y).index("all tasks")
    total = simulation.estimates.metrics["response_time_mean"].value
    assert sum(bar.x[place] for bar in bars) == pytest.approx(total)
    (curve,) = (
        trace for trace in simulation.figure("time-distribution").data if trace.name == "share of tasks done within"
    )
    assert (np.diff(curve.x) >= 0).all()
    assert curve.y[-1] == 1.0
    assert [trace.type for trace in simulation.figure("time-path").data] == ["icicle"]


def test_a_figure_that_needs_spans_says_so(simulation: whatif.Simulation, scenario: Scenario) -> None:
    """One that is not there names what it needs, a slip the name that is near; with spans it is drawn."""
    with pytest.raises(ValueError, match=r"got 'time-steps'; 'time-steps' needs spans: .*spans='all'"):
        simulation.figure("time-steps")
    with pytest.raises(ValueError, match="got 'time-pat'; did you mean `time-path`"):
        simulation.figure("time-pat")
    assert cs.simulate(scenario, replications=2, spans="all").figure("time-steps").data


def test_a_simulation_without_tasks_done_is_shown_too() -> None:
    """Nothing was done within the horizon: the answer says so, there is no chart, and no number is made up."""
    workload = {"arrivals": {"deterministic": "1 / s"}, "horizon": "3 s", "warmup": "0 s"}
    slow = cs.load("theory/mm1").replace_all({"workload": workload, "models.server.overhead": "100 s"})
    found = cs.simulate(slow, replications=2)
    assert "No task was done" in repr(found)
    with pytest.raises(ValueError, match="nothing to draw"):
        found.figure()
    frame = found.to_frame().set_index(["metric", "component"])
    assert frame["value"].isna().loc[("response_time_mean", "")]
    parsed(found._repr_html_())


def test_a_comparison_holds_the_saving(comparison: whatif.Comparison) -> None:
    """The table has the number that the result has."""
    frame = comparison.to_frame().set_index(["table", "name", "quantity"])
    assert (
        frame.loc[("comparison", comparison.result.metric, "saving"), "value"] == comparison.result.saving.amount.value
    )


def test_a_study_has_a_row_for_each_cell(study: whatif.Study) -> None:
    """Factors are columns, and the numbers are those of the cells."""
    frame = study.to_frame()
    assert frame["models.llm.replicas"].tolist() == [1, 1, 2, 2]
    assert frame["runtime"].tolist() == ["ideal", "stateless-api"] * 2
    assert not any("SCENARIO" in one for one in study.warnings)
    means = [cell.estimates["response_time_mean"].value for cell in study.result.cells]
    assert frame["response_time_mean"].tolist() == means


def test_a_sensitivity_has_a_figure_for_each_metric(worth: whatif.Sensitivity) -> None:
    """The first is of the first metric; another is asked for by its name."""
    first, second = worth.result.metrics
    assert worth.figure().to_json() == worth.figure(first).to_json()
    assert worth.figure(second).to_json() != worth.figure(first).to_json()


def test_a_plan_knows_the_rate_of_its_scenario(sizing: whatif.CapacityPlan) -> None:
    """Loads are told in tasks, as the command tells them; the choice is one of the values."""
    assert sizing.rate == 8.0
    (choice,) = sizing.result.choices
    assert choice.trial is not None
    assert sizing.result.variables[0].values[choice.trial.point[0]] in map(str, range(9, 16))


@pytest.mark.parametrize(
    ("ask", "answers"),
    [
        (cs.compare, whatif.Comparison),
        (cs.sweep, whatif.Study),
        (cs.sensitivity, whatif.Sensitivity),
        (cs.plan, whatif.CapacityPlan),
    ],
)
def test_a_question_shows_its_options(ask: Any, answers: type) -> None:
    """`help` and editors see the arguments of the model's function, and that it answers with an answer."""
    seen = inspect.signature(ask)
    assert "workers" in seen.parameters
    assert seen.return_annotation is answers
    assert ask.__doc__
    assert pickle.loads(pickle.dumps(ask)) is ask


# -- scenarios


def test_a_scenario_is_loaded_by_name_or_path(root: Path) -> None:
    """A name of one that ships, a path and a text of a path are the same scenario."""
    path = root / "scenarios" / "quickstart.yaml"
    assert cs.load("quickstart") == cs.load(path) == cs.load(str(path))
    assert cs.load("theory/mm1", {"workload.tasks": "7"}).workload.tasks == 7
    with pytest.raises(cs.ScenarioError, match="did you mean `quickstart`"):
        cs.load("quikstart")


def test_a_scenario_shows_itself(scenario: Scenario) -> None:
    """In one line, in a few, and as HTML, in which what comes from the file is no markup."""
    assert repr(scenario) == f"Scenario quickstart: {scenario.question}"
    assert "2 agents" in str(scenario)
    evil = scenario.replace("question", f"'{EVIL.replace(chr(39), chr(39) * 2)}'")
    assert evil.question == EVIL
    assert EVIL in "".join(parsed(evil._repr_html_()).text)
    assert EVIL in "".join(parsed(cs.simulate(evil, replications=1)._repr_html_()).text)


@pytest.mark.parametrize("value", [np.int64(3), 3, "3"])
def test_a_number_of_numpy_is_a_number(scenario: Scenario, value: object) -> None:
    """A value from an array is put in place as any other, and so is an array."""
    assert scenario.replace("models.llm.replicas", value).models["llm"].to_data()["replicas"] == 3
    over = scenario.replace("compare", {"runtime": "ideal", "over": {"models.llm.replicas": np.array([1, 2])}}).compare
    assert over is not None
    assert over.over == {"models.llm.replicas": (1, 2)}


def test_a_bad_path_or_value_says_the_remedy(scenario: Scenario) -> None:
    """It is a ScenarioError whatever is wrong, never a bare KeyError."""
    with pytest.raises(cs.ScenarioError, match="did you mean `replicas`"):
        scenario.replace("models.llm.replica", 4)
    with pytest.raises(cs.ScenarioError, match="must be a number, a text, a list or a mapping; got object"):
        scenario.replace("models.llm.replicas", object())


@pytest.mark.parametrize("given", ["quickstart", Path("my.yaml"), None, 3])
def test_what_is_no_scenario_is_refused(given: Any) -> None:
    """The message says how to get one."""
    asks: tuple[Any, ...] = (cs.simulate, cs.compare, cs.sweep, cs.sensitivity, cs.plan)
    for ask in asks:
        with pytest.raises(TypeError, match=r"must be a Scenario, such as `coordsim\.load\('"):
            ask(given)


# -- stopping


def test_an_interrupt_stays_one(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped, a simulation raises KeyboardInterrupt; what was complete is in its cause."""

    def stopped(given: Scenario, seed: int, replication: int, spans: str) -> Any:
        if replication == 2:
            raise KeyboardInterrupt
        return simulate_model.simulate(given, seed, replication, spans)

    monkeypatch.setattr("coordsim.models.run.simulate", stopped)
    with pytest.raises(KeyboardInterrupt, match="2 replications are complete") as told:
        cs.simulate(scenario, replications=4)
    assert isinstance(told.value.__cause__, Interrupted)
    assert len(told.value.__cause__.results) == 2


def test_an_interrupted_comparison_is_an_interrupt(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same holds where the question is asked by the model's function."""

    def stopped(*_arguments: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(simulate_model, "simulate", stopped)
    with pytest.raises(KeyboardInterrupt):
        cs.compare(scenario, "external-orchestrator", "session-state", replications=2)


def test_an_error_that_is_no_interrupt_goes_through(scenario: Scenario) -> None:
    """A mistake stays what it is."""
    with pytest.raises(CoordsimError, match="no such field"):
        cs.compare(scenario, changes={"models.lm.replicas": 2})


# -- HTML


def test_html_escapes_everything() -> None:
    """No text of a report becomes markup, wherever it stands."""
    table = Table(EVIL, (EVIL, ""), "<>", ((EVIL, "█▎"),), EVIL)
    html = to_html(Report((EVIL, EVIL), EVIL, (table,), (EVIL,), ((EVIL, EVIL),)), [EVIL])
    text = "".join(parsed(html).text)
    assert text.count(EVIL) == 11
    assert '<td class="bar">█▎</td>' in html


def test_many_warnings_are_folded() -> None:
    """Three stand as they are; four are behind their number, and none is left out."""
    report = Report(("a",), "b", ())
    assert parsed(to_html(report, ["w"] * 3)).tags.count("details") == 0
    folded = parsed(to_html(report, [f"w{number}" for number in range(4)]))
    assert folded.tags.count("details") == 1
    assert "4 warnings" in folded.text
    assert [text for text in folded.text if text.startswith("WARNING")] == [f"WARNING: w{one}" for one in range(4)]


def test_html_of_rows_without_columns_has_no_head() -> None:
    """A table whose columns have no names has rows only."""
    html = to_html(Report(("a",), "b", (Table("t", ("", ""), "<>", (("x", "1"),)),)))
    assert parsed(html).tags.count("thead") == 0


# -- the page


@pytest.mark.slow
def test_the_page_runs(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cells of docs/notebook.md run from top to bottom, and name every kind of answer."""
    monkeypatch.chdir(tmp_path)
    text = (root / "docs" / "notebook.md").read_text(encoding="utf-8")
    cells: dict[str, Any] = {}
    for code in BLOCK.findall(text):
        exec(compile(code, "notebook.md", "exec"), cells)
    asked = {type(one) for one in cells.values() if isinstance(one, Answer)}
    known = {getattr(whatif, name) for name in whatif.__all__ if _is_answer(name)}
    assert asked == known | {cs.Scaling, cs.FaultStudy}
    assert all(f"`{one.__name__}`" in text for one in asked)


def _is_answer(name: str) -> bool:
    found = getattr(whatif, name)
    return inspect.isclass(found) and issubclass(found, Answer) and found is not Answer

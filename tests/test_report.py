"""Reports: digits, units, layout, and the timeline of one task."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import coordsim
from coordsim.models.simulate import simulate
from coordsim.sim.analysis.replicate import Run
from coordsim.sim.analysis.result import Result, TaskView
from coordsim.sim.analysis.runfolder import read, write
from coordsim.sim.analysis.slo import objective
from coordsim.sim.analysis.statistics import Estimate
from coordsim.sim.analysis.summarize import summarize
from coordsim.sim.analysis.summary import Summary
from coordsim.sim.engine.ledger import Account, Span
from coordsim.sim.report import tables
from coordsim.sim.report.formats import to_csv, to_json
from coordsim.sim.report.layout import Report, Table, bar, lay_out, markdown, text
from coordsim.sim.report.numbers import show, unit_of_objective
from coordsim.sim.report.overview import about
from coordsim.sim.report.tables import About, answer, report
from coordsim.sim.report.tasks import TaskError, pick, title, view_in_folder, view_of, wanted
from coordsim.sim.report.timeline import timeline


def estimate(value: float, half: float = 0.0, **changed: float) -> Estimate:
    """Return an estimate over ten replications."""
    known = Estimate(value, value - half, value + half, 0.95, 10, "t over replications")
    return replace(known, **changed)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def results(root: Path) -> list[Result]:
    """Return three replications of a scenario with a fork, the first with all spans."""
    scenario = coordsim.load(root / "tests" / "data" / "cli" / "assistant.yaml").replace("workload.tasks", 60)
    return [simulate(scenario, 7, number, "all" if number == 0 else "none") for number in range(3)]


@pytest.fixture(scope="module")
def summary(results: list[Result]) -> Summary:
    """Return their summary, with two objectives."""
    return summarize(results, objectives=[objective("p95", 60.0), objective("success", 0.9)])


# -- numbers


@pytest.mark.parametrize(
    ("given_estimate", "unit", "shown"),
    [
        (estimate(2.104, 0.043), "s", "2.10 s ± 0.04"),
        (estimate(2.104, 0.43), "s", "2.1 s ± 0.4"),
        (estimate(2.104, 30.0), "s", "2 s ± 30"),
        (estimate(74.6, 22.9), "s", "75 s ± 23"),
        (estimate(0.0123, 0.0004), "s", "12.3 ms ± 0.4"),
        (estimate(0.99996, 0.00001), "s", "1.0000 s ± <0.0001"),
        (estimate(88.0, 4.0), "s", "88 s ± 4"),
        (estimate(5400.0, 600.0), "s", "90 min ± 10"),
        (estimate(0.25), "s", "250 ms ± 0"),
        (estimate(0.0), "s", "0 s"),
        (estimate(0.0, 0.004), "s", "0 ms ± 4"),
        (estimate(0.48, 0.021), "share", "48 % ± 2"),
        (estimate(1.0, low=0.992), "share", "100.0 % [99.2, 100.0]"),
        (estimate(1.0, low=0.9995), "share", "100.00 % [99.95, 100.00]"),
        (estimate(123_456.0, 2300.0), "tokens", "123,000 tokens ± 2,000"),
        (estimate(7.31, 0.12), "", "7.31 ± 0.12"),
        (estimate(74_100.0, 12_000.0), "B", "74 kB ± 12"),
        (estimate(0.00197, 0.00014), "USD", "$0.00197 ± 0.00014"),
        (estimate(0.47, 0.04), "1/s", "0.47 / s ± 0.04"),
        (estimate(0.001, 0.0001), "1/s", "3.60 / h ± 0.36"),
        (estimate(3.0, low=-math.inf, high=math.inf), "s", "3.00 s (no interval)"),
        (estimate(3.0, low=2.5, high=math.inf), "s", "3.00 s (at least 2.50)"),
        (estimate(3.0, low=-math.inf, high=4.0), "s", "3.00 s (at most 4.00)"),
        (estimate(math.nan), "s", "–"),
    ],
)
def test_digits_stop_where_the_interval_does(given_estimate: Estimate, unit: str, shown: str) -> None:
    """Value and error have one unit and as many decimals as the error allows."""
    assert show(given_estimate, unit).text == shown


@given(
    st.floats(min_value=1e-9, max_value=1e9),
    st.floats(min_value=1e-4, max_value=3.0),
    st.sampled_from(["s", "1/s", "share", "B", "tokens", "USD", ""]),
)
def test_a_shown_number_lies_within_its_interval(value: float, relative: float, unit: str) -> None:
    """Rounding moves no number by more than its error, up to four digits: the text is right in its own unit."""
    one = estimate(value, value * relative)
    text_of = show(one, unit)
    number, _, suffix = text_of.value.lstrip("$").partition(" ")
    scaled = float(number.replace(",", ""))
    error = float(text_of.error.strip("± <").replace(",", ""))
    # The two ends in the unit of the text: whatever the unit is, their ratio is that of the estimate.
    assert scaled == 0 or abs(error / scaled - relative) <= 0.6 * max(relative, 1e-3) + 0.6 * max(
        error / abs(scaled), 1e-3
    )
    assert suffix or unit in ("", "USD")


# -- layout


def test_a_table_is_laid_out_in_columns() -> None:
    """Columns line up, empty ends are cut, and a note follows."""
    table = Table("Title", ("name", "value", ""), "<><", (("a", "1 s", "± 0.1"), ("long name", "12 ms", "")), "a note")
    lines = [line.text for line in lay_out(Report(("heading",), "Answer.", (table,), ("remark",)))]
    assert lines == [
        "heading",
        "",
        "Answer.",
        "",
        "Title",
        "  name       value",
        "  a            1 s  ± 0.1",
        "  long name  12 ms",
        "  a note",
        "",
        "remark",
    ]


def test_long_lines_are_wrapped() -> None:
    """A long question or answer keeps within the width."""
    lines = lay_out(Report(("word " * 60,), "word " * 60, (), ("word " * 60,)), width=40)
    assert max(len(line.text) for line in lines) <= 40


def test_only_a_terminal_gets_escapes() -> None:
    """Styled text is the plain text with escapes around its headings."""
    lines = lay_out(Report(("heading",), "Answer.", ()))
    assert text(lines) == "heading\n\nAnswer.\n"
    assert text(lines, styled=True) == "\x1b[1mheading\x1b[0m\n\n\x1b[1;36mAnswer.\x1b[0m\n"


def test_markdown_escapes_what_would_end_a_cell() -> None:
    """A bar in a name is no new column."""
    out = markdown(Report(("h",), "a", (Table("T", ("x", "y"), "<>", (("a|b", "1"),)),)))
    assert "| a\\|b | 1 |" in out
    assert "| --- | ---: |" in out


@given(st.floats(min_value=0, max_value=1), st.integers(min_value=1, max_value=40))
def test_a_bar_is_as_long_as_its_share(share: float, width: int) -> None:
    """Within half an eighth of a character, but what is above zero is seen."""
    drawn = bar(share, width)
    eighths = sum(8 if char == "█" else "▏▎▍▌▋▊▉".index(char) + 1 for char in drawn)
    assert abs(eighths - share * width * 8) <= 0.5 or (drawn == "▏" and 0 < share * width * 8 < 1)
    assert len(drawn) <= width


# -- tables


def test_the_answer_names_the_largest_part(summary: Summary) -> None:
    """Seconds of seconds, the share with its interval, and what stands behind it."""
    largest = max(summary.categories, key=lambda name: summary.categories[name].share.value)
    assert answer(summary).startswith(f"The largest part of T_total is {largest}: ")
    assert answer(summary).endswith("95 %, 3 replications).")


def test_without_a_task_there_is_no_largest_part(summary: Summary) -> None:
    """Nothing is named where nothing was done, and the report is still written."""
    nothing = estimate(math.nan)
    empty = replace(summary, metrics=dict.fromkeys(summary.metrics, nothing))
    assert answer(empty) == "No task was done, so T_total has no parts."
    assert text(lay_out(report(empty, About())))


def test_the_categories_of_the_report_are_all_there(summary: Summary) -> None:
    """Every category is a row, or named among those that hold nothing."""
    found = next(table for table in report(summary, About()).tables if table.title.startswith("Where"))
    shown = {row[0].strip() for row in found.rows}
    assert {"T_coordination", "without tool.execute", "T_total"} <= shown
    for name in summary.categories:
        assert (name in shown) != (name in found.note)


def test_classes_are_shown_when_there_are_several(summary: Summary) -> None:
    """One class is all tasks; two have a row each."""
    name, metrics = next(iter(summary.classes.items()))
    assert [row[0] for row in report(summary, About()).tables[0].rows] == ["all tasks"]
    two = replace(summary, classes={name: metrics, "other": metrics})
    assert [row[0] for row in report(two, About()).tables[0].rows] == ["all tasks", name, "other"]


def test_failures_are_told_the_most_frequent_first(summary: Summary) -> None:
    """Eight reasons, and how many tasks failed for others."""
    failed = replace(summary, failures={f"reason {number}": number for number in range(1, 11)})
    found = next(table for table in report(failed, About()).tables if table.title == "Why tasks failed")
    assert found.rows[0] == ("reason 10", "10")
    assert found.note == "and 3 for other reasons"


@pytest.mark.parametrize(
    ("metric", "unit"),
    [
        ("p99.9", "s"), ("mean", "s"), ("tool_p95", "s"), ("coordination_mean", "s"), ("success", "share"),
        ("throughput", "1/s"), ("bytes_mean", "B"), ("carried_tokens_p95", "tokens"), ("cost_mean", "USD"), ("steps_max", ""),
    ],
)  # fmt: skip
def test_an_objective_has_the_unit_of_its_quantity(metric: str, unit: str) -> None:
    """A threshold is shown in the unit in which it was compared."""
    wanted_one = objective(metric, 1.0)
    assert unit_of_objective(wanted_one.metric) == unit


def test_the_runtime_is_told_by_what_differs_from_its_preset() -> None:
    """A preset alone is its name; a policy of one's own is added, and `none` is one."""
    presets = {"fast": {"state": "full", "codec": "json"}}
    plain = {"question": "Why?", "runtime": {"preset": "fast", "state": "full", "codec": "json"}}
    own = {"runtime": {"preset": "fast", "state": "delta"}}
    assert about(plain, presets) == About("Why?", "fast")
    assert (
        about(plain | {"runtime": {"preset": "fast", "state": "full", "codec": None}}, presets).runtime
        == "fast with codec: none"
    )
    assert about(own, {"fast": {"state": "full"}}).runtime == "fast with state: delta"


def test_every_fact_of_the_models_has_words(summary: Summary) -> None:
    """A count that models make is shown under a name for people."""
    assert set(summary.facts) <= set(tables.FACTS)


def test_the_formats_hold_what_is_not_known_as_empty(summary: Summary) -> None:
    """An unknown end is null in JSON and empty in CSV."""
    open_end = replace(summary, metrics={**summary.metrics, "response_time_max": estimate(3.0, high=math.inf)})
    assert '"high": null' in to_json(open_end)
    assert "response_time_max,,s,3.0,3.0,,10\n" in to_csv(open_end)


@pytest.fixture(scope="module")
def served(root: Path) -> Summary:
    """Return the summary of a scenario with an inference server."""
    scenario = coordsim.load(root / "scenarios" / "llama-on-h100.yaml").replace("workload.tasks", 40)
    return summarize([simulate(scenario, replication=number) for number in range(2)])


def table_of(summary: Summary, title: str) -> dict[str, dict[str, str]]:
    """Return a table of a report: its cells by row and column."""
    (one,) = [table for table in report(summary, About()).tables if table.title == title]
    return {row[0]: dict(zip(one.columns[1:], row[1:], strict=True)) for row in one.rows}


def test_inference_servers_have_tables_of_their_own(served: Summary) -> None:
    """A row each, in the units of what is told; what never happened, such as a preemption, has no column."""
    assert [table.title for table in report(served, About()).tables if "esource" in table.title] == []
    work = table_of(served, "Inference servers")["models.llm"]
    prompts = table_of(served, "Inference servers: prompts, and memory for KV")["models.llm"]
    assert list(work) == ["replicas", "device busy", "batch", "TTFT", "TPOT", "mean wait", "queue length"]
    assert list(prompts) == ["tokens found", "calls with a hit", "amplification", "KV in use", "KV cached"]
    assert all(" ms ±" in work[name] for name in ("TTFT", "TPOT", "mean wait"))
    assert all(" % ±" in prompts[name] for name in ("tokens found", "calls with a hit", "KV in use"))
    metrics = served.resources[0].metrics
    assert prompts["amplification"] == show(metrics["prefill_amplification"], "").text
    preempted = replace(served.resources[0], metrics={**metrics, "preemptions_per_call": estimate(0.25, 0.01)})
    found = table_of(replace(served, resources=(preempted,)), "Inference servers: prompts, and memory for KV")
    assert found["models.llm"]["preempted"] == "0.250 ± 0.010"


def test_what_a_server_did_has_units_in_every_format(served: Summary) -> None:
    """CSV carries seconds, shares and rates of the server, and the seconds to first tokens of a task."""
    rows = [line.split(",") for line in to_csv(served).splitlines()]
    units = {row[0]: row[2] for row in rows if row[1] == "models.llm"}
    assert {name: units[name] for name in ("ttft_mean", "kv_used_share", "iterations", "batch_mean")} == {
        "ttft_mean": "s", "kv_used_share": "share", "iterations": "1/s", "batch_mean": "",
    }  # fmt: skip
    assert [row[2] for row in rows if row[0].startswith("ttft") and row[1] != "models.llm"] == ["s"]
    assert '"prefill_amplification"' in to_json(served)
    assert "| models.llm |" in markdown(report(served, About()))
    assert "time to first token, all calls" in table_of(served, "Work per task")


# -- one task


def span(name: str, start: float, end: float, **changed: object) -> Span:
    """Return a span of task 0 on its trunk."""
    known = Span(0, 0, 1, 0, name, "tool", "search", start, end, 0.0, True, False, "done")
    return replace(known, **changed)  # type: ignore[arg-type]


def test_a_timeline_is_a_tree() -> None:
    """Children are below their parent in order of start; lost and overlapped work is marked, sizes carry units."""
    spans = (
        span("step", 10.0, 14.0, id=1, category="structure", component="plan"),
        span("tool.execute", 10.0, 13.0, id=2, parent=1, size=8000.0),
        span("tool.execute", 10.0, 12.0, id=3, parent=1, lane=5, critical=False),
        span("inference", 13.0, 14.0, id=4, parent=1, category="inference", component="llm", size=150.0, lost=True),
    )
    parts = {Account("tool", "search", "tool.execute"): 3.0, Account("recovery", "llm", "recovery"): 1.0}
    lines = timeline(TaskView(0, "task", 10.0, 14.0, parts, {}, spans), "task 0")
    assert lines[0] == "task 0 (task): T_total 4 s, done"
    assert [line.rstrip() for line in lines[2:]] == [
        "    0 s  └ step plan                              4 s  ────────────────────",
        "    0 s    ├ tool.execute search  tool            3 s  ███████████████·····  8 kB",
        "    0 s    ├ tool.execute search  tool            2 s  ░░░░░░░░░░··········  (overlapped)",
        "    3 s    └ llm                  inference       1 s  ···············█████  150 tokens lost",
        "  tool 3 s + recovery 1 s",
        "  = 4 s = T_total",
    ]


def test_a_sum_that_is_off_is_told() -> None:
    """Parts that do not make up T_total are our mistake, and the timeline says so."""
    view = TaskView(3, "task", 0.0, 4.0, {Account("tool", "search", "tool.execute"): 3.0}, {}, ())
    lines = timeline(view)
    assert "≠ T_total" in lines[-1]
    assert "please report it" in lines[-1]
    assert "no spans" in lines[1]


def test_deep_nesting_is_drawn() -> None:
    """Thousands of levels need no recursion, and no line is endless."""
    spans = tuple(span("step", 0.0, 1.0, id=i + 1, parent=i, category="structure") for i in range(3000))
    lines = timeline(TaskView(0, "task", 0.0, 1.0, {}, {}, spans))
    assert len(lines) == 3003
    assert max(map(len, lines)) <= 100


def test_the_timeline_of_every_task_adds_up(results: list[Result]) -> None:
    """For each task the sum of its categories is its T_total, and so is that of its critical spans."""
    for task in range(60):
        view = view_of(results[0], task)
        assert timeline(view)[-1].endswith("= T_total")
        critical = sum(one.end - one.start for one in view.spans if one.critical and one.category != "structure")
        assert critical == pytest.approx(view.response_time, rel=1e-9)


def test_a_task_is_found_by_its_percentile(results: list[Result]) -> None:
    """The longest task is the longest, and p50 lies in the middle."""
    times = results[0].response_times
    longest, middle = (view_of(results[0], pick(results[0], wanted(name))) for name in ("max", "p50"))
    assert longest.response_time == times.max()
    assert sorted(times).index(middle.response_time) in (29, 30)
    assert title(longest.task, wanted("max")).endswith(", the longest")
    assert title(7, wanted("p99"), replication=False) == "task 7, at p99 of T_total"
    with pytest.raises(TaskError, match="60 tasks arrived, numbered"):
        pick(results[0], wanted("60"), replication=False)


@pytest.mark.parametrize("name", ["", "p", "p100", "p-5", "99%", "1.5", "²"])
def test_what_names_no_task(name: str) -> None:
    """A task has a number, or a percentile below 100."""
    with pytest.raises(TaskError, match="percentile"):
        wanted(name)


def test_no_task_at_a_percentile_when_none_was_done(results: list[Result]) -> None:
    """An empty run has no p99."""
    with pytest.raises(TaskError, match="none was done"):
        pick(results[0].after(1e9), wanted("p99"))


def test_a_task_thinned_out_of_a_long_run_is_told(results: list[Result]) -> None:
    """Rows of a very long run hold every n-th task only; the nearest that is there is named."""
    first = results[0]
    thinned = replace(first, rows=first.rows[::4], stride=4)
    with pytest.raises(TaskError, match="only every 4th task is; try 4"):
        pick(thinned, wanted("7"))


def test_a_task_comes_back_from_a_run_folder(results: list[Result], summary: Summary, tmp_path: Path) -> None:
    """Written and read, a task has the same parts, facts and spans."""
    folder = read(write(Run(tuple(results), summary), "name: x\n", tmp_path / "run"))
    view, name = view_in_folder(folder, wanted("11"))
    assert view == view_of(results[0], 11)
    assert name == "task 11 of replication 0"
    assert view_in_folder(folder, wanted("max"))[0].response_time == results[0].response_times.max()
    with pytest.raises(TaskError, match="no spans of task 60"):
        view_in_folder(folder, wanted("60"))

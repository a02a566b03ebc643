"""The report of a trace in the terminal, as JSON, CSV and Markdown, and in a folder."""

import csv
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from coordsim.models.trace_digest import digest_of, result_of
from coordsim.sim.analysis.statistics import Estimate
from coordsim.sim.analysis.trace_digest import Remark, TraceDigest
from coordsim.sim.engine.ledger import UNEXPLAINED
from coordsim.sim.report.layout import WIDTH, lay_out, markdown, text
from coordsim.sim.report.numbers import plain
from coordsim.sim.report.stored import read
from coordsim.sim.report.tasks import view_of
from coordsim.sim.report.terminal import Format
from coordsim.sim.report.trace_answers import ANSWERS, COLUMNS, KEY, to_csv, to_json
from coordsim.sim.report.trace_call_tables import call_tables
from coordsim.sim.report.trace_tables import answer_of, read_tables, report
from coordsim.sim.report.trace_task_tables import accounted, slow_table
from coordsim.sim.report.trace_timeline import shortened, waterfall

from .measured import AGENT, MODEL, measured, write

NO_NUMBER = re.compile(r"\b(?:nan|inf|None)\b")
OF_RUNS = re.compile(r"replication|seed|scenario|warm-up", re.IGNORECASE)


@pytest.fixture(scope="module")
def found() -> TraceDigest:
    """Return the digest of a trace."""
    return digest_of(measured(142, failed=2, unfinished=1))


def told(found: TraceDigest) -> str:
    """Return the report as the terminal shows it."""
    return text(lay_out(report(found)))


def test_the_report_has_the_tables_of_a_run_and_those_of_a_trace(found: TraceDigest) -> None:
    """Each kind of table once, in order: time, calls, errors, what was read."""
    titles = [one.title for one in report(found).tables]
    assert titles == [
        "T_total", "T_total by class of task", "T_total by what became of the tasks", "Where the time goes (mean per task, on the critical path)",
        "Time that no span explains, by where it lies", "Where the time goes around each percentile of T_total", "Calls", "Tokens of a call (mean)",
        "Calls that failed", "What errors cost", "What runs at once", "Tokens by turn", "Work per task", "Service", "Why tasks failed", "The slowest tasks", "Files",
        "What was dropped, repaired and guessed", "Sums over all tasks, to hold against the files",
    ]  # fmt: skip
    assert set(titles) - {one.title for one in report(found, every=True).tables} == {"Calls"}
    assert {"The largest components", "How long calls take", "What calls take of a task"} <= {
        one.title for one in report(found, every=True).tables
    }


@pytest.mark.parametrize("tasks", [1, 5, 20, 142])
def test_no_number_is_none_and_nothing_speaks_of_runs(tasks: int) -> None:
    """Whatever the number of tasks: no nan, no infinity, no replications, no seed, no scenario."""
    said = told(digest_of(measured(tasks)))
    assert NO_NUMBER.findall(said) == []
    assert OF_RUNS.findall(said) == []


def test_a_trace_in_which_no_task_was_done(found: TraceDigest) -> None:
    """It says so, and still tells what was read."""
    said = told(digest_of(measured(0, failed=3)))
    assert "No task was done" in said
    assert "runs.json" in said
    assert NO_NUMBER.findall(said) == []


def test_the_answer_names_what_no_span_explains(found: TraceDigest) -> None:
    """Its share with an interval; and of a trace without gaps that spans explain all."""
    assert re.search(r"No span explains \d[\d.]* % (± [\d.]+|\[[\d., ]+\])\.", report(found).answer)
    assert "142 tasks" in report(found).answer
    assert "Spans explain all of it." in report(digest_of(measured(20, gaps=False))).answer


def test_tables_say_where_gaps_lie_and_how_many_tasks_a_percentile_has(found: TraceDigest) -> None:
    """Between which calls, inside which agent; and around p95 fourteen of 142 tasks."""
    tables = {one.title: one for one in report(found).tables}
    rows = tables["Time that no span explains, by where it lies"].rows
    assert ("tool call → model call", AGENT) in [row[:2] for row in rows]
    assert ("start → model call", "no span") in [row[:2] for row in rows]
    assert "p95: the 14 tasks nearest to it" in tables["Where the time goes around each percentile of T_total"].note
    assert "association" in tables["What errors cost"].note


def test_a_trace_without_errors_and_tokens_has_no_tables_of_them() -> None:
    """Nothing is told of what is not there."""
    titles = [one.title for one in report(digest_of(measured(12, errors=False))).tables]
    assert "Calls that failed" not in titles
    assert "What errors cost" not in titles


SHOWN = [1, 2, 5, 12, 40]


@pytest.mark.parametrize("tasks", SHOWN)
def test_nothing_is_wider_than_the_terminal(tasks: int) -> None:
    """Whatever the names are: they are shortened in the middle."""
    trace = measured(tasks)
    calls = [
        tuple(
            replace(one, component=f"organisation/{one.component}-with-a-very-long-name-20251101") for one in each.calls
        )
        for each in trace.tasks
    ]
    long = replace(trace, tasks=tuple(replace(one, calls=two) for one, two in zip(trace.tasks, calls, strict=True)))
    lines = told(digest_of(long)).split("\n")
    assert max(map(len, lines)) <= WIDTH
    assert any("organisation/" in one and "…" in one and "20251101" in one for one in lines)


@pytest.mark.parametrize("tasks", SHOWN)
def test_no_cell_says_that_there_is_no_interval(tasks: int) -> None:
    """A note or a warning does, once; of few tasks no number has an interval."""
    said = told(digest_of(measured(tasks)))
    assert "(no interval)" not in said
    if tasks < 10:
        assert not re.search(r"±|\(at (least|most)|\d \[", said)


def test_few_tasks_are_told_as_facts() -> None:
    """How long these took and what their time went to; no percentiles of single tasks, and no differences between so few."""
    one = digest_of(measured(1))
    assert re.match(r"The task took [\d.]+ s\. Of its time, [\d.]+ % is inference", answer_of(one))
    assert "T_total" not in [each.title for each in report(one).tables]
    five = digest_of(measured(5))
    assert re.match(r"These 5 tasks took [\d.]+ s to [\d.]+ s\. Of their time, ", answer_of(five))
    tables = {each.title: each for each in report(five).tables}
    assert tables["T_total"].columns == ("tasks", "shortest", "mean", "longest")
    assert not any(title.startswith("Where the time goes around") for title in tables)
    assert "less without" not in told(five)


def test_overlapping_calls_leave_the_split_open() -> None:
    """Where spans were ended late the answer says neither the largest part nor T_coordination."""
    found = replace(digest_of(measured(20)), overlap=0.5)
    assert "neither which of them takes longer nor T_coordination can be told" in answer_of(found)
    assert "T_coordination is" not in answer_of(found)
    assert "largest part" not in answer_of(found)


def test_the_largest_part_that_spans_explain_is_named_beside_what_none_does(found: TraceDigest) -> None:
    """What no span explains is told once, with its share; and T_coordination's bound below the table of categories."""
    parts = dict(found.run.summary.categories)
    swapped = parts | {UNEXPLAINED: parts["inference"], "inference": parts[UNEXPLAINED]}
    run = replace(found.run, summary=replace(found.run.summary, categories=swapped))
    said = answer_of(replace(found, run=run))
    assert said.count("No span explains") == 1
    assert "The largest part that spans explain is" in said
    table = next(one for one in report(found).tables if one.title.startswith("Where the time goes (mean"))
    most = found.run.summary.metrics["coordination_share"].value + parts[UNEXPLAINED].share.value
    assert plain(most, "share") in table.note


def test_only_classes_of_several_tasks_have_a_row(found: TraceDigest) -> None:
    """The most frequent first, and the others counted; a class without a name is called so."""
    made = next(iter(found.run.summary.classes.values()))
    size = made["response_time_mean"].n

    def of(tasks: int) -> dict[str, Estimate]:
        return {name: replace(one, n=tasks) for name, one in made.items()}

    classes = {"#": of(size), **{f"rare-{i}": of(1) for i in range(13)}, "some": of(3)}
    run = replace(found.run, summary=replace(found.run.summary, classes=classes))
    table = next(one for one in report(replace(found, run=run)).tables if one.title == "T_total by class of task")
    assert [row[0] for row in table.rows] == ["unnamed", "some"]
    assert "13 tasks of 13 smaller" in table.note


def test_rates_are_told_where_tasks_are_near_each_other(found: TraceDigest) -> None:
    """Not of files of different days, between which nothing runs; and success only where some tasks fail."""

    def service(one: TraceDigest) -> list[str]:
        return [row[0] for table in report(one).tables if table.title == "Service" for row in table.rows]

    assert service(found) == ["success", "arrival rate", "throughput", "number in system"]
    metrics = found.run.summary.metrics
    rare = {**metrics, "number_in_system": replace(metrics["number_in_system"], value=0.000005)}
    assert service(replace(found, run=replace(found.run, summary=replace(found.run.summary, metrics=rare)))) == [
        "success"
    ]
    assert service(digest_of(measured(20, arrivals=False))) == []


def test_many_components_are_counted_and_the_page_has_them(found: TraceDigest) -> None:
    """Eight rows in the terminal, the rest counted; all of them with `every`."""
    one = next(each for each in found.calls if each.kind == "tool")
    many = replace(found, calls=tuple(replace(one, component=f"tool-{i:02}") for i in range(30)))
    table = next(call_tables(many))
    assert len(table.rows) == 8
    assert "22 smaller" in table.note
    assert len(next(call_tables(many, every=True)).rows) == 30


def test_a_minor_remark_is_told_where_all_are(found: TraceDigest) -> None:
    """Others everywhere. A long remark goes on in another row; where the first of what was dropped stands is said behind it."""
    minor = Remark("noted", "roots of tasks that have several", found.read.kept, 0.0, minor=True)
    lost = Remark("dropped", "no time that can be read", 2, 0.0, "line 17")
    long = Remark("guessed", "a guess that takes more words than fit beside its numbers: " + "and more " * 4, 1, 0.0)

    def rows(*remarks: Remark, every: bool = False) -> list[tuple[str, ...]]:
        made = replace(found, read=replace(found.read, remarks=remarks))
        return [row for one in read_tables(made, every) if one.title.startswith("What was dropped") for row in one.rows]

    assert rows(minor) == []
    assert len(rows(minor, every=True)) == 1
    assert rows(lost) == [("dropped", "no time that can be read (first: line 17)", "2")]
    assert [bool(row[0]) for row in rows(long)] == [True, False]


def test_the_waterfall_shows_gaps_where_they_lie() -> None:
    """What no span explains is `?` below the group that it lies in, those too short to see are counted; names are not said twice."""
    result = result_of(measured(12))
    lines = waterfall(view_of(result, 3), "task 3")
    gaps = [one for one in lines if "no span" in one and "?" in one]
    assert gaps
    assert all("unexplained" in one for one in gaps)
    assert not any("tool.execute" in one or "chat " in one or "inside" in one for one in lines)
    starts = [one for one in lines if "─" in one or "█" in one or "?" in one]
    assert len(starts) > 5
    assert max(map(len, lines)) <= WIDTH + 10
    short = waterfall(replace(view_of(result, 3), arrival=-1e4))
    assert any("not drawn" in one and "no span explains" in one for one in short)


def test_a_waterfall_has_the_longest_spans_and_counts_the_rest() -> None:
    """With a limit each row is drawn or counted in place; a call that was cut at the critical path is one row."""
    view = view_of(result_of(measured(12)), 3)
    every, few = waterfall(view), waterfall(view, limit=6)
    assert len(few) < len(every)
    rows = [one for one in every if re.match(r" +[\d.]+ (?:ms|s) ", one)]
    drawn = [one for one in few if re.match(r" +[\d.]+ (?:ms|s) ", one)]
    assert any("shorter, " in one for one in drawn)
    assert f"the longest of {len(rows)} rows" in few[-1] or f"the longest of {len(rows)} rows" in few[-2]
    longest = max(
        (one for one in view.spans if one.category in ("inference", "tool")), key=lambda one: one.end - one.start
    )
    assert any(longest.component in one for one in drawn)

    call = next(one for one in view.spans if one.category == "tool")
    middle = (call.start + call.end) / 2
    cut = [
        replace(call, end=middle, size=call.size / 2, critical=False),
        replace(call, id=10**6, start=middle, size=call.size / 2),
    ]
    spans = tuple(one for each in view.spans for one in (cut if each is call else [each]))
    lines = waterfall(replace(view, spans=spans))
    assert len([one for one in lines if call.component in one]) == len([one for one in every if call.component in one])
    assert any("of it overlapped" in one for one in lines)


def test_a_long_task_is_one_row_however_deep_its_groups_are() -> None:
    """A chain of groups longer than the limit is counted, and not walked to its end for each of its spans."""
    view = view_of(result_of(measured(2)), 0)
    first = next(one for one in view.spans if one.category == "structure")
    deep = tuple(
        replace(first, id=i + 1, parent=i, start=view.arrival, end=view.end, name="agent") for i in range(3000)
    )
    drawn = shortened(replace(view, spans=deep), 60)
    assert [one.name for one in drawn.spans] == ["agent"] * 54 + ["… 2,946 shorter, 0 s"]
    flat = tuple(replace(first, id=i + 1, start=view.arrival + i, end=view.arrival + i + 1 + i % 7) for i in range(500))
    assert 40 <= len(shortened(replace(view, spans=flat), 60).spans) <= 60


def test_tasks_that_were_not_done_have_their_times() -> None:
    """Failed and unfinished tasks have columns beside those done; of a trace with none done the answer tells what its time was."""
    made = digest_of(measured(20, failed=2, unfinished=1))
    table = {one.title: one for one in report(made).tables}["T_total by what became of the tasks"]
    assert table.columns == ("", "done", "failed", "unfinished, so far")
    assert table.rows[0] == ("tasks", "20", "2", "1")
    assert sum(one.mean * one.tasks for one in made.ended) == pytest.approx(
        math.fsum(each for one in made.ended for each in one.seconds.values())
    )
    none = digest_of(measured(0, unfinished=1))
    assert re.match(r"No task was done\. The task took [\d.]+ s so far: [\d.]+ % ", answer_of(none))


def test_all_time_is_accounted_for_or_said_not_to_be(found: TraceDigest) -> None:
    """Below the sums: categories sum to T_total; where they do not, by how much."""
    assert "which is T_total" in accounted(found)
    first = replace(found.ended[0], seconds=found.ended[0].seconds | {"tool": 0.0})
    assert "this is a mistake of coordsim" in accounted(replace(found, ended=(first, *found.ended[1:])))


def test_failed_tasks_are_a_cost_of_errors(found: TraceDigest) -> None:
    """How many failed, and how much of the time of all tasks went to them; where none was done, nothing is said of those."""
    cost = {one.title: one for one in report(found).tables}["What errors cost"]
    (failed,) = (one for one in found.ended if one.status == "failed")
    seconds = failed.mean * failed.tasks
    told_ = {row[0]: row[1] for row in cost.rows}
    assert told_["tasks that failed"] == "2 of 145"
    assert told_["time of tasks that failed"].startswith(
        f"{plain(seconds, 's')} ({plain(seconds / found.wall, 'share')} of"
    )
    none = {one.title: one for one in report(digest_of(measured(0, failed=3))).tables}["What errors cost"]
    assert "tasks done with a failed call" not in [row[0] for row in none.rows]
    assert "of 144 tasks that ended" in {one.title: one for one in report(found).tables}["Work per task"].note


def test_files_that_are_no_traces_are_not_counted_as_some(found: TraceDigest) -> None:
    """The heading counts traces; the table names what was left out first, and says how many spans other files have."""
    (file, *_) = found.read.files
    left_out = replace(file, name="LICENSE", format="", spans=0, remark="left out: no trace")
    files = (*(replace(file, name=f"{at}.json", spans=at) for at in range(20)), left_out)
    made = replace(found, read=replace(found.read, files=files))
    assert f"20 files ({file.format})" in report(made).heading[1]
    (table,) = (one for one in read_tables(made) if one.title == "Files")
    assert [row[0] for row in table.rows][-3:] == ["18.json", "19.json", "LICENSE"]
    assert table.note.endswith(f"{sum(range(13)):,} of them in 13 more files")


def test_few_tasks_of_one_length_and_spans_that_explain_nothing_make_sentences(found: TraceDigest) -> None:
    """Two ends that read the same are told once; where no span explains anything there is no largest part."""
    assert answer_of(replace(digest_of(measured(3)), few=(7.0, 7.0, 7.0))).startswith("These 3 tasks took 7 s each.")
    summary = found.run.summary
    empty = {
        name: replace(one, share=replace(one.share, value=float(name == UNEXPLAINED)))
        for name, one in summary.categories.items()
    }
    nothing = replace(found, run=replace(found.run, summary=replace(summary, categories=empty)))
    assert "largest" not in answer_of(nothing)


def test_long_ids_of_tasks_are_told_by_what_differs(found: TraceDigest) -> None:
    """What all begin and end with is left out of the short table, and nowhere else."""
    slow = tuple(
        replace(one, trace=f"steps.csv:set-of-many/task-{at}/attempt-1/organisation-model")
        for at, one in enumerate(found.slowest)
    )
    made = replace(found, slowest=slow)
    (short,), (full,) = slow_table(made), slow_table(made, every=True)
    assert [row[1] for row in short.rows] == ["…/task-0/…", "…/task-1/…", "…/task-2/…"]
    assert full.rows[0][1] == slow[0].trace


def test_the_slowest_tasks_are_named_as_in_the_files(found: TraceDigest) -> None:
    """In order of T_total, failed ones too, with the ids of their traces."""
    assert [one.total for one in found.slowest] == sorted((one.total for one in found.slowest), reverse=True)
    (table,) = slow_table(found)
    assert table.rows[0][:2] == (str(found.slowest[0].task), found.slowest[0].trace)
    assert list(slow_table(digest_of(measured(1)))) == []


def test_json_holds_everything_unrounded(found: TraceDigest) -> None:
    """The fields by name; contents of no kind."""
    data = json.loads(to_json(found), parse_constant=pytest.fail)
    assert data[KEY] == 1
    assert (
        data["summary"]["categories"][UNEXPLAINED]["share"]["value"]
        == found.run.summary.categories[UNEXPLAINED].share.value
    )
    assert data["gaps"]["rows"][0]["seconds"] == found.gaps.rows[0].seconds
    assert data["read"]["dropped"] == 3
    assert data["answer"] == report(found).answer


def test_csv_has_a_number_a_row(found: TraceDigest) -> None:
    """Every table; what is not known is empty."""
    rows = list(csv.DictReader(io.StringIO(to_csv(found))))
    assert tuple(rows[0]) == COLUMNS
    assert all(math.isfinite(float(row["value"])) for row in rows)
    by = {(row["table"], row["name"], row["metric"]): row for row in rows}
    assert float(by["category", UNEXPLAINED, "share"]["value"]) == found.run.summary.categories[UNEXPLAINED].share.value
    assert by["all", "", "response_time_p99"]["high"] == ""
    assert ("calls of llm", MODEL, "seconds_p95") in by
    assert ("sum", "tool", "union") in by
    assert len(by) == len(rows)


def test_every_format_is_printed(found: TraceDigest, capsys: pytest.CaptureFixture[str]) -> None:
    """As tables, JSON, CSV and Markdown."""
    for format in Format:
        ANSWERS.put(found, format)
        assert capsys.readouterr().out.strip()
    assert markdown(report(found)).startswith("## runs")


def test_a_folder_is_read_back(tmp_path: Path) -> None:
    """What is written is a trace, equal to what was found, with its page; the same again gives the same bytes."""
    write(tmp_path / "one", 20)
    write(tmp_path / "two", 20)
    names = sorted(one.name for one in (tmp_path / "one").iterdir())
    assert names == ["report.html", "report.md", "result.json", "trace.csv", "trace.json"]
    stored = read(tmp_path / "one")
    assert stored.kind == "trace"
    assert stored.found == digest_of(measured(20, failed=2, unfinished=1))
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()

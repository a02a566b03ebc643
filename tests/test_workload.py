"""The specification of a workload: what is refused, what is doubted, and that it survives writing."""

import pickle
from pathlib import Path

import pytest

from coordsim.models.arrivals import open_arrivals
from coordsim.models.workload import Workload
from coordsim.sim.engine.draws import Draws
from coordsim.sim.engine.errors import ScenarioError
from coordsim.sim.engine.source import Document
from coordsim.sim.engine.spec import validate

DATA = Path(__file__).parent / "data" / "workloads"
MMPP = "mmpp: {states: [{rate: 10 / s, stay: 2 s}, {rate: 0.5 / s, stay: 6 s}]}"
BURSTY = "bursty: {rate: 2 / s, peak_to_mean: 4, burst: 3 s}"
RATES = "rates: {every: 10 s, rates: [1 / s, 0 / s, 5 / s, 0.2 / s]}"
RAMP = "ramp: {from: 0 / s, to: 4 / s, over: 30 s}"
RENEWAL = "renewal: {interarrival: {gamma: {mean: 500 ms, cv: 0.5}}}"
CLOSED = "closed: {users: 3}"
TRACE = f"trace: {{file: {DATA / 'azure.csv'}"


def workload(arrivals: str, rest: str = "horizon: 1 h") -> Workload:
    """Return the workload with these arrivals, as YAML gives it."""
    return validate(Workload, Document.from_text(f"arrivals: {{{arrivals}}}\n{rest}\n", "w.yaml"))


def mistakes(arrivals: str, rest: str = "horizon: 1 h") -> str:
    """Return the report on a workload that is refused."""
    with pytest.raises(ScenarioError) as refused:
        workload(arrivals, rest)
    return str(refused.value)


@pytest.mark.parametrize(
    ("arrivals", "rest", "expected"),
    [
        ("poisson: 1 / s", "", "needs `tasks: 5000` or `horizon: 1 h` to end a run"),
        (CLOSED, "", "needs `tasks: 5000` or `horizon: 1 h` to end a run"),
        (TRACE + ", repeat: true}", "", "to end a run; `repeat: true` plays the trace without end"),
        ("poisson: 1 / s", "tasks: 5\nhorizon: 1 h", "3:10  horizon: goes without `tasks`"),
        ("poisson: 1 / s", "horizon: 1 h\nwarmup: 60 min", "warmup: must be shorter than the horizon, 1 h"),
        ("poisson: 1 / s", "horizon: 1 h\nwarmup: soon", "a duration, such as `250 ms`; got 'soon'"),
        ("poisson: 1 / s", "tasks: 0", "tasks: must be a whole number >= 1; got 0"),
        ("poisson: 0 / s", "tasks: 5", "arrivals.poisson: must be a rate > 0"),
        ("poisson: 5", "tasks: 5", "arrivals.poisson: must carry a unit"),
        ("mmpp: {states: [{rate: 1 / s, stay: 1 s}]}", "tasks: 5", "states: must have at least 2 items"),
        (
            "mmpp: {states: [{rate: 0 / s, stay: 1 s}, {rate: 0 / s, stay: 1 s}]}",
            "tasks: 5",
            "states: one rate at least",
        ),
        (
            "mmpp: {states: [{rate: 1 / d, stay: 1 s}, {rate: 0 / s, stay: 1 s}]}",
            "tasks: 5",
            "that is `poisson: 0.5 / d`",
        ),
        ("bursty: {rate: 1 / s, peak_to_mean: 1, burst: 1 s}", "tasks: 5", "peak_to_mean: must be a number > 1"),
        ("bursty: {rate: 1 / s, peak_to_mean: 2, burst: 1 us}", "tasks: 5", "burst: bursts begin and end 1e+06 times"),
        ("bursty: {rate: 1 / s, peak_to_mean: 2, burst: 1 s, quiet: 100 %}", "tasks: 5", "quiet: must be < 100 %"),
        ("rates: {every: 1 h, rates: []}", "tasks: 5", "rates.rates: must have at least 1 item"),
        ("rates: {every: 1 h, rates: [0 / s, 0 / s]}", "tasks: 5", "rates.rates: one rate at least must be > 0"),
        ("rates: {every: 1 h, rates: [1 / s, 0 / s], repeat: false}", "tasks: 5", "tasks: arrivals of `rates` end"),
        ("ramp: {from: 0 / s, to: 0 / s, over: 1 h}", "tasks: 5", "ramp.to: one of `from` and `to` must be > 0"),
        ("ramp: {from: 1 / s, to: 0 / s, over: 1 h}", "tasks: 5", "tasks: arrivals of `ramp` end"),
        ("renewal: {interarrival: 0 s}", "tasks: 5", "renewal.interarrival: must have a mean > 0"),
        ("closed: {users: 0}", "tasks: 5", "closed.users: must be a whole number >= 1"),
        ("closed: {users: 3, start: stagered}", "tasks: 5", "did you mean `staggered`"),
        (
            "closed: {users: 3, start: staggered, think: {pareto: {minimum: 1 s, shape: 1}}}",
            "tasks: 5",
            "closed.start: `staggered` needs a think time with a finite mean",
        ),
        (TRACE + ", request: Contxt}", "", "csv:1: has no column `Contxt`; did you mean `ContextTokens`?"),
        (TRACE + ", unit: ms}", "", "trace.unit: "),
        (TRACE + ", output: ContextTokens, tokens: false}", "", "trace.output: names a column of tokens"),
        (TRACE + ", limit: 1, repeat: true}", "tasks: 9", "trace.repeat: needs a file whose rows come at two times"),
        ("trace: {file: nowhere.csv}", "", "arrivals.trace.file: nowhere.csv: no such file"),
        (f"trace: {{file: {DATA / 'bad' / 'rows.csv'}}}", "", "rows.csv:3: `input_tokens` must be a number of tokens"),
    ],
)
def test_a_mistake_is_told_where_it_was_written(arrivals: str, rest: str, expected: str) -> None:
    """A workload that cannot be is refused with the rule and the remedy."""
    assert expected in mistakes(arrivals, rest)


def test_the_rows_of_a_file_are_told_with_the_scenario() -> None:
    """Five rows and the rest come in one report, with a mistake elsewhere."""
    report = mistakes(f"trace: {{file: {DATA / 'bad' / 'rows.csv'}}}", "drain: -1 s")
    assert report.startswith("w.yaml has 7 mistakes")
    assert "and 5 more rows like these" in report


@pytest.mark.parametrize(
    ("arrivals", "rest", "expected"),
    [
        ("poisson: 1 / s", "tasks: 10", []),
        (
            "renewal: {interarrival: {pareto: {minimum: 1 s, shape: 1.5}}}",
            "tasks: 10",
            ["renewal.interarrival: the variance"],
        ),
        (CLOSED[:-1] + ", think: {pareto: {minimum: 1 s, shape: 1.5}}}", "tasks: 10", ["closed.think: the variance"]),
        (
            "poisson: 1 / s",
            "tasks: 9\nrequest: {pareto: {minimum: 1 tokens, shape: 1.5}}",
            ["workload.request: the variance"],
        ),
        (MMPP, "horizon: 40 s", ["workload.arrivals.mmpp: a run goes through its states only 5 times"]),
        (MMPP, "horizon: 1 h", []),
        (BURSTY, "tasks: 60", ["workload.arrivals.bursty: a run goes through its states only 2.5 times"]),
        (
            RATES,
            "horizon: 30 s",
            ["horizon: the mean arrival rate until then is 2 / s, and in the long run 1.55 / s"],
        ),
        (RATES, "horizon: 80 s", []),
        (RAMP, "horizon: 30 s", ["until then is 2 / s, and in the long run 4 / s"]),
        (TRACE + "}", "tasks: 5", ["tasks: the trace has 4 rows"]),
        (TRACE + ", repeat: true}", "tasks: 5", []),
        (TRACE + "}", "horizon: 1 h", ["horizon: the last row of the trace arrives at 1 min; state `repeat: true`"]),
        (TRACE + "}", "request: 5 tokens", ["request: the trace's column is used instead"]),
        (TRACE + ", tokens: false}", "request: 5 tokens", []),
    ],
)
def test_doubts_are_told(arrivals: str, rest: str, expected: list[str]) -> None:
    """What speaks against trusting results is said, and nothing where nothing does."""
    doubts = workload(arrivals, rest).doubts()
    assert len(doubts) == len(expected)
    assert all(part in doubt for part, doubt in zip(expected, doubts, strict=True))


def test_a_span_of_years_is_a_doubt_about_the_unit(tmp_path: Path) -> None:
    """Milliseconds taken for seconds are noticed, unless the unit was stated."""
    file = tmp_path / "ms.csv"
    file.write_text("t\n1700000000000\n1700003600000\n1700300000000\n")
    assert "state `unit: s`, or `unit: ms`" in workload(f"trace: {{file: {file}}}", "").doubts()[0]
    assert workload(f"trace: {{file: {file}, unit: s}}", "").doubts() == []


@pytest.mark.parametrize("arrivals", [MMPP, BURSTY, RATES, RAMP, RENEWAL, CLOSED, TRACE + ", repeat: true}"])
def test_a_workload_survives_writing_and_pickling(arrivals: str) -> None:
    """Dumped and read again, or sent to another process, it is the same."""
    load = workload(arrivals)
    assert Workload.model_validate(load.to_data()) == load
    sent = pickle.loads(pickle.dumps(load))
    assert sent == load
    if not load.users:
        assert next(open_arrivals(sent, Draws(1))) == next(open_arrivals(load, Draws(1)))


def test_editors_get_a_schema() -> None:
    """The JSON Schema has the names that YAML has."""
    schema = Workload.model_json_schema(by_alias=True)
    assert set(schema["$defs"]["Ramp"]["properties"]) == {"from", "to", "over"}
    assert "rate" in schema["$defs"]["Bursty"]["properties"]

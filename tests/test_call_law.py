"""The law of calls to hosted models: fitted to recorded calls, judged on runs it did not see, written as a scenario's models."""

import csv
import gzip
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ruamel.yaml import YAML

from coordsim.calibration.calls import ColumnError, FittedFile, Recorded, fit_recorded, parse_columns, read_calls
from coordsim.calibration.fits.call_law import (
    COEFFICIENTS,
    CallLaw,
    Calls,
    errors_of,
    first_half,
    fit_calls,
    fit_law,
    held_out,
)
from coordsim.models.scenario import Scenario
from coordsim.sim.analysis.result import Result
from coordsim.sim.engine.errors import ProfileError
from coordsim.sim.engine.ledger import Ledger

from .command import Call
from .scene import chain, run

SHARED = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "agent_runs"
REQUESTS = SHARED / "cc_weka_requests.csv.gz"
COLUMNS = ("seconds=api_time", "input=in_tok", "cached=64*prefix_hit_x64", "output=out_tok")
GOAL = 0.17  # of the median error on runs that the fit did not see
TRUE = CallLaw(overhead=1.2, new=3e-5, cached=8e-6, output=0.016)

recorded_runs = pytest.mark.skipif(
    not REQUESTS.exists(), reason="the recorded coding-agent runs (shared/data/agent_runs) are not here"
)


@cache
def weka() -> Recorded:
    """Return the recorded calls of coding agents."""
    return read_calls(REQUESTS, parse_columns(COLUMNS), by="model", group="trace")


@cache
def weka_laws() -> FittedFile:
    """Return the laws of the recorded calls."""
    return fit_recorded(weka())


def synthetic(seed: int, runs: int = 40, each: int = 25, law: CallLaw = TRUE) -> Calls:
    """Return calls that follow `law` but for a factor of 0.2 lognormal, half of it common to a run, and outliers.

    3 % of the calls stall for 5 to 30 times as long, 3 % are cut off after a tenth of the time, and of 1 % the number of
    output tokens is a stub.
    """
    rng = np.random.default_rng(seed)
    count = runs * each
    run_of = np.repeat(np.arange(runs), each)
    calls = Calls(
        new=rng.lognormal(7, 1.5, count).round(),
        cached=rng.uniform(5e3, 1.5e5, count).round(),
        output=rng.lognormal(5.5, 1, count).round(),
        seconds=np.ones(count),
        runs=run_of,
    )
    factor = np.exp(0.14 * rng.standard_normal(runs)[run_of] + 0.14 * rng.standard_normal(count))
    seconds = law.seconds(calls) * factor
    odd = rng.random(count)
    seconds = np.where(odd < 0.03, seconds * rng.uniform(5, 30, count), seconds)
    seconds = np.where((odd >= 0.03) & (odd < 0.06), 0.1 * seconds, seconds)
    return replace(calls, seconds=seconds, output=np.where(odd > 0.99, 1.0, calls.output))


def median_error(name: str, factor: float, where_it_matters: bool) -> float:
    """Return the median error of laws, one coefficient times `factor`, each fitted to one half, on the runs of the other.

    `where_it_matters` leaves only calls of which the law as fitted says that this coefficient is a tenth of the time.
    """
    errors = []
    for calls in weka().models.values():
        for first in (True, False):
            seen = first_half(calls.runs) == first
            law, rest = fit_law(calls.take(seen)), calls.take(~seen)
            if where_it_matters:
                part = law.seconds(rest) - replace(law, **{name: 0.0}).seconds(rest)
                rest = rest.take(part > 0.1 * law.seconds(rest))
            off = replace(law, **{name: factor * getattr(law, name)})
            errors.append(off.seconds(rest) / rest.seconds - 1.0)
    return float(np.median(np.abs(np.concatenate(errors))))


# --- Recorded runs ------------------------------------------------------------------------------------------------------


@recorded_runs
@pytest.mark.parametrize("first", [True, False])
def test_half_of_the_recorded_runs_predicts_the_other_half(first: bool) -> None:
    """The median error of calls in runs that the fit did not see is at most 17 %, whichever half is fitted."""
    pairs = [held_out(calls, first) for calls in weka().models.values()]
    found = [pair for pair in pairs if pair is not None]
    assert len(found) == len(weka().models) == 6
    all_errors = errors_of(np.concatenate([errors for errors, _ in found]), np.concatenate([runs for _, runs in found]))
    assert all_errors.calls > 10_000
    assert all_errors.runs > 200
    assert all_errors.median <= GOAL
    assert all_errors.interval is not None
    assert all_errors.interval[0] <= all_errors.median <= all_errors.interval[1] <= GOAL


@recorded_runs
def test_what_is_held_out_is_whole_runs_that_share_no_call_with_the_fit() -> None:
    """No run lies in both halves, and no call of one half is equal in every number to one of the other."""
    assert weka().left_out["equal in every number to a call of another run"] > 500
    for calls in weka().models.values():
        first = first_half(calls.runs)
        assert not set(calls.runs[first]) & set(calls.runs[~first])
        rows = np.column_stack([calls.new, calls.cached, calls.output, calls.seconds])
        assert not {tuple(row) for row in rows[first]} & {tuple(row) for row in rows[~first]}


@recorded_runs
def test_with_its_output_tokens_shuffled_a_law_predicts_no_more() -> None:
    """The bar of 17 % can be missed: the same calls with outputs of each other are off by more than twice as much."""
    rng = np.random.default_rng(0)
    errors = []
    for calls in weka().models.values():
        pair = held_out(replace(calls, output=rng.permutation(calls.output)), first=True)
        assert pair is not None
        errors.append(np.abs(pair[0]))
    assert np.median(np.concatenate(errors)) > 2 * GOAL - 0.02


@recorded_runs
@pytest.mark.parametrize("name", COEFFICIENTS)
def test_each_coefficient_off_by_half_predicts_worse(name: str) -> None:
    """On held-out runs, each half by the law of the other, whether it is too large or too small.

    New tokens are a tenth of the time in 3 % of the calls alone, so the calls that a coefficient matters to are judged apart.
    """
    for where_it_matters in (False, True):
        fitted, less, more = (median_error(name, factor, where_it_matters) for factor in (1.0, 0.5, 1.5))
        assert min(less, more) > fitted, where_it_matters


@recorded_runs
def test_the_residual_has_the_median_and_the_mean_of_the_calls() -> None:
    """Its table is 1 at 50 %, and what is drawn from it has the mean of measured over law within 2 %."""
    for name, calls in weka().models.items():
        fitted = weka_laws().models[name]
        table = dict(zip(fitted.residual.shares, fitted.residual.ratios, strict=True))
        assert table[0.5] == pytest.approx(1.0, abs=1e-4)
        ratios = calls.seconds / fitted.law.seconds(calls)
        assert fitted.residual.mean == pytest.approx(ratios.mean())
        shares, values = np.array(fitted.residual.shares), np.array(fitted.residual.ratios)
        drawn = float(np.interp(np.linspace(0, 1, 1_000_001), shares, values).mean())
        assert drawn == pytest.approx(ratios.mean(), rel=0.02)


# --- A recorded run as a scenario ---------------------------------------------------------------------------------------


def fact(result: Result, name: str) -> np.ndarray:
    """Return what each task counted of a fact."""
    column: np.ndarray = result.rows[:, len(Ledger.HEAD) + list(result.facts).index(name)]
    return column


def replay(models: dict[str, Any], model: str, calls: Calls, tasks: int) -> Result:
    """Run tasks that call the model as often as a recorded run: it grows from the same first prompt by what that one did."""
    total = calls.new + calls.cached
    growth = np.maximum(np.diff(total) - calls.output[:-1], 0.0)
    steps: list[tuple[str, dict[str, Any]]] = [("call-0", {"agent": "a"})]
    for number in range(1, len(calls)):
        steps += [(f"tool-{number}", {"tool": "t"}), (f"call-{number}", {"agent": "a"})]
    tokens = {"output": calls.output, "growth": growth}
    drawn = {name: {"empirical": {"values": [f"{n:g} tokens" for n in values]}} for name, values in tokens.items()}
    return run(
        {
            "models": {"llm": None, model: {**models[model], "cache_hit": "100 %"}},
            "agents": {"a": {"model": model, "output": drawn["output"]}},
            "tools": {"t": {"latency": "0 s", "result": drawn["growth"]}},
            "workload": {"tasks": tasks, "request": f"{total[0]:g} tokens"},
        },
        chain(*steps),
        spans="none",
    )


@recorded_runs
def test_a_recorded_run_as_a_scenario_takes_the_times_of_the_law() -> None:
    """Each task takes what the law says of its tokens; with the residual, the mean factor is that of the residual.

    The tasks draw what the run's calls wrote and what came between them, in any order, so that they cache about as much: their
    mean is within 10 % of what the law says of the run's own calls.
    """
    name, fitted = "claude-opus-4-5-20251101", weka_laws()
    models = YAML(typ="safe").load(fitted.to_yaml())["models"]
    calls = weka().models[name]
    long = next(label for label in np.unique(calls.runs) if 25 <= (calls.runs == label).sum() <= 35)
    calls = calls.take(calls.runs == long)
    law = fitted.models[name].law

    def expected(result: Result) -> np.ndarray:
        sums = [fact(result, f"{kind}_tokens") for kind in ("new", "cached", "output")]
        assert (fact(result, "llm_calls") == len(calls)).all()
        assert (fact(result, "carried_tokens") == 0).all()
        return np.asarray(len(calls) * law.overhead + sums[0] * law.new + sums[1] * law.cached + sums[2] * law.output)

    def taken(result: Result) -> np.ndarray:
        columns = list(Ledger.HEAD)
        return np.asarray(result.rows[:, columns.index("end")] - result.rows[:, columns.index("arrival")])

    without = {name: {key: value for key, value in models[name].items() if key != "residual"}}
    exact = replay(without, name, calls, tasks=100)
    # Coefficients are written with four digits.
    assert taken(exact) == pytest.approx(expected(exact), rel=1e-3)
    assert taken(exact).mean() == pytest.approx(law.seconds(calls).sum(), rel=0.1)
    noisy = replay(models, name, calls, tasks=400)
    factors = taken(noisy) / expected(noisy)
    error = factors.std() / np.sqrt(len(factors))
    assert factors.mean() == pytest.approx(fitted.models[name].residual.mean, abs=0.01 + 4 * error)


# --- Known laws ---------------------------------------------------------------------------------------------------------


def test_known_coefficients_are_found_and_their_intervals_hold_them() -> None:
    """Over 12 sets of noisy calls with outliers each coefficient is right within 10 % on average; its intervals hold the truth.

    Of 48 independent intervals that hold it nine times in ten, fewer than 36 do so less than once in a thousand times.
    """
    held = 0
    found = [fit_calls(synthetic(seed)) for seed in range(12)]
    for name in COEFFICIENTS:
        truth = getattr(TRUE, name)
        for one in found:
            assert one.intervals is not None
            low, high = one.intervals[name]
            assert low <= getattr(one.law, name) <= high
            held += low <= truth <= high
        assert np.mean([getattr(one.law, name) for one in found]) == pytest.approx(truth, rel=0.1)
    assert held >= 36


def test_outliers_hardly_move_a_law() -> None:
    """A tenth of the calls stalled for a hundred times as long: the law stays, where least squares would not."""
    calls = synthetic(1)
    stalled = replace(calls, seconds=np.where(np.arange(len(calls)) % 10 == 0, 100 * calls.seconds, calls.seconds))
    law, moved = fit_law(calls), fit_law(stalled)
    least_squares = np.linalg.lstsq(stalled.features, stalled.seconds, rcond=None)[0]
    assert moved.output == pytest.approx(law.output, rel=0.1)
    assert abs(least_squares[3] / law.output - 1) > 1


def test_a_law_without_noise_is_found_exactly() -> None:
    """Four coefficients to six digits, and a residual of 1 throughout."""
    calls = synthetic(2)
    clean = replace(calls, seconds=TRUE.seconds(calls))
    found = fit_calls(clean)
    for name in COEFFICIENTS:
        assert getattr(found.law, name) == pytest.approx(getattr(TRUE, name), rel=1e-6)
    assert set(found.residual.ratios) == {1.0}
    assert found.errors is not None
    assert found.errors.p90 < 1e-6


def test_a_coefficient_that_would_be_negative_is_zero() -> None:
    """Calls that are faster the more is cached have a law without cost for cached tokens."""
    calls = synthetic(3)
    law = fit_law(replace(calls, seconds=(1.0 + 0.02 * calls.output) * np.exp(-calls.cached / 3e5)))
    assert law.cached == 0.0
    assert law.output > 0


def test_the_law_of_one_half_is_judged_on_the_other() -> None:
    """Where the calls of the second half take twice as long, the law of either half is off by just that on the other."""
    calls = synthetic(10)
    first = first_half(calls.runs)
    calls = replace(calls, seconds=TRUE.seconds(calls) * np.where(first, 1.0, 2.0))
    for half, off in ((True, -0.5), (False, 1.0)):
        pair = held_out(calls, half)
        assert pair is not None
        errors, runs = pair
        assert errors == pytest.approx(off, rel=1e-4)
        assert set(runs) == set(calls.runs[first != half])


def test_the_half_of_a_run_depends_on_its_name_alone() -> None:
    """Other runs in the file, and their order, change nothing; about half of many runs are in each."""
    names = [f"run-{number}" for number in range(1000)]
    whole = dict(zip(names, first_half(names), strict=True))
    some = names[::-7]
    assert [whole[name] for name in some] == first_half(some).tolist()
    assert 450 < sum(whole.values()) < 550


# --- Reading ------------------------------------------------------------------------------------------------------------


def written(folder: Path, calls: Calls, name: str = "calls.csv", **extra: list[str]) -> Path:
    """Return a CSV file of calls whose `input_tokens` contain the cached ones."""
    path = folder / name
    columns: dict[str, Any] = {
        "run": calls.runs,
        "input_tokens": (calls.new + calls.cached).astype(int),
        "cached_tokens": calls.cached.astype(int),
        "output_tokens": calls.output.astype(int),
        "seconds": calls.seconds,
        **extra,
    }
    with gzip.open(path, "wt", newline="") if path.suffix == ".gz" else path.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def test_columns_are_known_or_named_and_may_count_in_other_units(tmp_path: Path) -> None:
    """The same calls from known names, from a gzipped file, and from blocks and milliseconds."""
    calls = synthetic(4, runs=6)
    known = read_calls(written(tmp_path, calls)).models["model"]
    packed = read_calls(written(tmp_path, calls, "calls.csv.gz")).models["model"]
    ms = [f"{1e3 * seconds!r}" for seconds in calls.seconds.tolist()]
    blocks = [f"{cached / 16!r}" for cached in calls.cached.tolist()]
    path = written(tmp_path, calls, "other.csv", ms=ms, blocks=blocks)
    named = read_calls(path, parse_columns(["seconds=0.001*ms,cached=16 * blocks"])).models["model"]
    for found in (known, packed, named):
        for name in ("new", "cached", "output", "seconds"):
            assert getattr(found, name) == pytest.approx(getattr(calls, name))
    assert read_calls(path, parse_columns(["cached=none"])).models["model"].cached.max() == 0


def test_rows_without_a_number_and_calls_of_another_run_are_left_out_and_counted(tmp_path: Path) -> None:
    """An empty cell is no zero; a call that a second run carries along counts once."""
    calls = synthetic(5, runs=4)
    again = calls.take(np.r_[np.arange(len(calls)), np.arange(10)])
    again.runs[-10:] = 99
    path = written(tmp_path, again)
    lines = path.read_text().splitlines()
    lines[30] = lines[30].rpartition(",")[0] + ","
    path.write_text("\n".join(lines) + "\n")
    found = read_calls(path)
    assert len(found.models["model"]) == len(calls) - 1
    assert list(found.left_out.values()) == [1, 10]


MISTAKES: dict[str, tuple[Callable[[list[str]], list[str]], str]] = {
    "a missing column": (
        lambda rows: [rows[0].replace("output_tokens", "outputs"), *rows[1:]],
        "it has `run`, `input_tokens`, `cached_tokens`, `outputs`, `seconds`; say `--columns output=NAME`",
    ),
    "text for a number": (
        lambda rows: [*rows[:4], rows[4].rpartition(",")[0] + ",soon", *rows[5:]],
        "5  seconds: must be a latency > 0; got 'soon'",
    ),
    "a negative count": (
        lambda rows: [*rows[:6], "0,-5,0,10,1.5", *rows[7:]],
        "7  input_tokens: must be a number >= 0; got -5",
    ),
    "no time": (lambda rows: [*rows[:2], "0,500,0,10,0", *rows[3:]], "3  seconds: must be a latency > 0; got 0"),
    "more cached than input": (
        lambda rows: [*rows[:3], "0,500,800,10,1.5", *rows[4:]],
        "500, and so in 1 rows: if `input_tokens` is without the cached ones, say `--columns new=input_tokens`",
    ),
    "a short row": (lambda rows: [*rows[:3], "0,500", *rows[4:]], "4  must have 5 fields, one for each column; got 2"),
    "too few calls": (lambda rows: rows[:9], "model: needs at least 12 calls to fit four coefficients; got 8"),
    "a constant column": (
        lambda rows: [rows[0], *(",".join([*row.split(",")[:3], "100", row.split(",")[4]]) for row in rows[1:])],
        "the number of output tokens must vary, or their time cannot be told from the overhead; got 100 in each of",
    ),
    "no rows": (lambda rows: rows[:1], "must have rows; got the header alone"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_file_that_cannot_be_fitted_says_where_why_and_what_to_do(mistake: str, tmp_path: Path) -> None:
    """Each mistake cites the file, the line where there is one, the rule, and what was got."""
    change, message = MISTAKES[mistake]
    path = written(tmp_path, synthetic(6, runs=2))
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    with pytest.raises(ProfileError) as error:
        fit_recorded(read_calls(path))
    assert message in str(error.value)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "secnds=a",
            "must name one of `seconds`, `new`, `input`, `cached`, `output`; got `secnds`; did you mean `seconds`?",
        ),
        ("seconds", "must be like `seconds=api_time` or `cached=64*blocks`; got 'seconds'"),
        ("new=a,input=b", "must name `new` (without the cached tokens) or `input` (with them); got both"),
        ("output=none", "`none` is for `cached` alone; got 'output=none'"),
        ("output=a,output=b", "must name the column of `output` once; got it again in 'output=b'"),
    ],
)
def test_a_choice_of_columns_that_cannot_be_is_refused(text: str, message: str) -> None:
    """The rule, what was got, and what may have been meant."""
    with pytest.raises(ColumnError) as error:
        parse_columns([text])
    assert str(error.value) == message


# --- The command --------------------------------------------------------------------------------------------------------


def two_models(folder: Path) -> Path:
    """Return a file of calls of two models, one with a name that no scenario takes, and one call of a third."""
    calls = synthetic(7, runs=12)
    models = ["fast", "vendor/big:1"] * (len(calls) // 2)
    models[5] = "once"
    return written(folder, calls, model=models)


def test_the_command_writes_models_that_a_scenario_takes(call: Call, tmp_path: Path) -> None:
    """`--format yaml` is a `models:` section: pasted into a scenario it loads, with the law's numbers to four digits."""
    path = two_models(tmp_path)
    shown = call("profile", "calls", path, "--by", "model", "--group", "run", "--format", "yaml")
    assert shown.code == 0
    text = "coordsim: 1\nname: pasted\nseed: 1\nruntime: ideal\nworkload: {arrivals: {poisson: 1 / s}, tasks: 10}\nagents: {a: {model: fast}}\n"
    scenario = Scenario.from_text(text + "workflow: {start: work, steps: {work: {agent: a}}}\n" + shown.out)
    fitted = fit_recorded(read_calls(path))
    assert list(scenario.models) == ["fast", "vendor-big-1"]
    for spec, one in zip(scenario.models.values(), fitted.models.values(), strict=True):
        assert spec.kind == "api"
        assert spec.overhead.mean == pytest.approx(one.law.overhead, rel=1e-3)
        assert [spec.new, spec.cached, spec.output] == pytest.approx(
            [one.law.new, one.law.cached, one.law.output], rel=1e-3
        )
        assert spec.residual.quantile(0.5) == pytest.approx(1.0, abs=1e-4)
        assert spec.residual.quantile(0.9) == pytest.approx(
            one.residual.ratios[one.residual.shares.index(0.9)], abs=1e-4
        )


def test_the_command_reports_laws_errors_and_what_was_left_out(call: Call, tmp_path: Path) -> None:
    """As a table, Markdown, JSON and CSV, with the same numbers; a model with too few calls is named, with the reason."""
    path = two_models(tmp_path)
    data = json.loads(call("profile", "calls", path, "--format", "json").out)
    assert [one["model"] for one in data["models"]] == ["fast", "vendor/big:1"]
    assert data["not_fitted"] == {"once": "needs at least 12 calls to fit four coefficients; got 1"}
    table = call("profile", "calls", path).out
    assert "not fitted: once: needs at least 12 calls" in table
    assert f"{1e3 * data['models'][0]['output']:.3g} ms" in table
    assert "| vendor/big:1 |" in call("profile", "calls", path, "--format", "md").out
    rows = list(csv.DictReader(call("profile", "calls", path, "--format", "csv").out.splitlines()))
    assert float(rows[1]["new"]) == data["models"][1]["new"]
    assert call("profile", "calls", path).out == table


def test_the_command_refuses_what_it_cannot_read(call: Call, tmp_path: Path) -> None:
    """A file that is not there, a column that is not, and an option that makes no sense end with 2 and say why."""
    path = two_models(tmp_path)
    for arguments, message in (
        ((tmp_path / "none.csv",), "cannot be read"),
        ((path, "--by", "modle"), "--by must be a column; got `modle`; did you mean `model`?"),
        ((path, "--columns", "seconds=secs"), "`secs`, must be there in the header; did you mean `seconds`?"),
        ((path, "--columns", "time=seconds"), "must name one of `seconds`"),
    ):
        refused = call("profile", "calls", *arguments)
        assert refused.code == 2
        assert message in " ".join(refused.err.split())
        assert refused.out == ""


def test_without_runs_or_cached_tokens_the_report_says_what_that_means(tmp_path: Path) -> None:
    """Errors of calls held out one by one are too small, and a law without cached tokens takes all as new."""
    path = written(tmp_path, synthetic(8, runs=4))
    rows = [row.split(",") for row in path.read_text().splitlines()]
    path.write_text("\n".join(",".join([row[1], *row[3:]]) for row in rows) + "\n")
    found = read_calls(path)
    assert any("each call is held out alone" in note for note in found.notes)
    assert any("all of a prompt counts as new" in note for note in found.notes)
    fitted = fit_recorded(found)
    assert fitted.models["model"].law.cached == 0.0
    assert "cache_hit" not in fitted.to_yaml()


def test_too_few_runs_have_no_intervals(tmp_path: Path) -> None:
    """Four runs cannot say what a fifth would do; the coefficients stand without intervals, in every format."""
    found = fit_calls(synthetic(9, runs=4))
    assert found.intervals is None
    fitted = fit_recorded(read_calls(written(tmp_path, synthetic(9, runs=4))))
    assert "# 95 %" not in fitted.to_yaml()
    assert {value for row in fitted.to_data()["models"] for value in [row["intervals"]]} == {None}

"""Recorded calls of hosted models: read from a table, one law a model, written as the `models:` of a scenario.

A row is a call: seconds, output tokens, cached tokens, and the other tokens of the prompt (`new`) or all of them (`input`).
A column may count in something else: `64*blocks`. Rows without a time or a count are left out and counted, and so are calls
that another run has too, equal in every number: a run that was resumed or forked carries the calls of the other, and what a
fit saw would be in what is held out.

Leaves out: calls that overlap, and when a call was made.
Checked: tests/test_call_law.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..sim.engine import units
from ..sim.engine.errors import CoordsimError, Problem, ProfileError, did_you_mean, listed, show
from .fits.call_law import COEFFICIENTS, Calls, Errors, FittedCalls, errors_of, fit_calls, held_out
from .imports.tables import numbers, table, times

__all__ = ["ColumnError", "FittedFile", "Recorded", "fit_recorded", "parse_columns", "read_calls"]

NONE = "none"
_KNOWN: Mapping[str, Mapping[str, float]] = {
    "seconds": {
        **dict.fromkeys(("seconds", "api_time", "latency", "latency_s", "duration", "duration_s", "elapsed"), 1.0),
        **dict.fromkeys(("latency_ms", "duration_ms", "processing_ms", "elapsed_ms"), 1e-3),
    },
    "new": dict.fromkeys(("new_tokens", "uncached_tokens"), 1.0),
    "input": dict.fromkeys(("input_tokens", "prompt_tokens", "in_tok", "input_length", "contexttokens"), 1.0),
    "cached": dict.fromkeys(("cached_tokens", "cache_read_input_tokens", "cached_input_tokens", "cache_read"), 1.0),
    "output": dict.fromkeys(("output_tokens", "completion_tokens", "out_tok", "output_length", "generatedtokens"), 1.0),
}
_MODELS = ("model", "model_name")
_RUNS = ("trace", "trace_id", "run", "run_id", "session", "session_id", "conversation_id")
_COLUMN = re.compile(r"(?:(?P<factor>[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*\*\s*)?(?P<name>.+)")
_PER_TOKEN = ("new", "cached", "output")


class ColumnError(CoordsimError):
    """A choice of columns that cannot be: which, the rule, and what was got."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the table, and what one of its numbers is in seconds or tokens."""

    name: str
    factor: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Recorded:
    """The calls in a file by model, how many rows were left out for which reason, and what to know about them."""

    file: str
    models: dict[str, Calls]
    left_out: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class FittedFile:
    """The laws of the models of a file; which could not be fitted and why; and held-out errors over all models.

    `halves` are the errors on one half of the runs of laws fitted to the other: first to second, then second to first.
    """

    recorded: Recorded
    models: dict[str, FittedCalls]
    failed: dict[str, str]
    halves: tuple[Errors | None, Errors | None]

    def to_data(self) -> dict[str, Any]:
        """Return plain data; times in seconds, what is not known None."""
        return {
            "file": self.recorded.file,
            "models": [_model_data(name, one) for name, one in self.models.items()],
            "held_out": [
                {"fitted_to": to, **_errors_data(one)}
                for to, one in zip(("first half", "second half"), self.halves, strict=True)
            ],
            "not_fitted": self.failed,
            "left_out": self.recorded.left_out,
            "notes": list(self.recorded.notes),
        }

    def to_yaml(self) -> str:
        """Return the `models:` section of a scenario, with the source of each number as a comment."""
        lines = ["models:"]
        for name, one in zip(_names(self.models), self.models.values(), strict=True):
            lines += [f"  {line}".rstrip() for line in _model_yaml(name, one, Path(self.recorded.file).name)]
        return "\n".join(lines) + "\n"


# --- Columns ------------------------------------------------------------------------------------------------------------


def parse_columns(texts: Iterable[str]) -> dict[str, Column | None]:
    """Return what `seconds=api_time`, `cached=64*blocks` or `cached=none` say; several in a text are separated by commas.

    Raises ColumnError.
    """
    found: dict[str, Column | None] = {}
    for part in (part.strip() for text in texts for part in text.split(",")):
        role, equals, text = (side.strip() for side in part.partition("="))
        match = _COLUMN.fullmatch(text)
        if not equals or match is None:
            raise ColumnError(f"must be like `seconds=api_time` or `cached=64*blocks`; got {show(part)}")
        if role not in _KNOWN:
            raise ColumnError(f"must name one of {listed(_KNOWN)}; got `{role}`{did_you_mean(role, _KNOWN)}")
        if role in found:
            raise ColumnError(f"must name the column of `{role}` once; got it again in {show(part)}")
        if text == NONE and role != "cached":
            raise ColumnError(f"`none` is for `cached` alone; got {show(part)}")
        try:
            factor = float(match["factor"] or 1.0)
        except ValueError:
            raise ColumnError(f"must multiply by a number; got {show(part)}") from None
        found[role] = None if text == NONE else Column(match["name"], factor)
    if "new" in found and "input" in found:
        raise ColumnError("must name `new` (without the cached tokens) or `input` (with them); got both")
    return found


def _choose(path: Path, names: list[str], given: Mapping[str, Column | None]) -> dict[str, Column]:
    """Return the columns to read: those given, else those whose names are known. Raises ProfileError with all mistakes."""
    chosen: dict[str, Column] = {}
    problems: list[str] = []
    for role, known in _KNOWN.items():
        column = given.get(role)
        if column is not None:
            chosen[role] = column
            if names.count(column.name) != 1:
                count = "once" if column.name in names else "in the header"
                hint = did_you_mean(column.name, names) or f"; it has {listed(names)}"
                problems.append(f"the column of `{role}`, `{column.name}`, must be there {count}{hint}")
        elif role not in given:
            found = [name for name in names if name.lower() in known]
            chosen |= {role: Column(found[0], known[found[0].lower()])} if found else {}
    if "new" in chosen and "input" in chosen:  # what was not asked for gives way
        del chosen["new" if "input" in given else "input"]
    problems += [
        f"no column is known to hold `{role}`; it has {listed(names)}; say `--columns {role}=NAME`"
        for role in ("seconds", "output", "input")
        if role not in chosen and not (role == "input" and "new" in chosen)
    ]
    if problems:
        raise ProfileError([Problem("", problem, str(path), 1) for problem in problems], str(path))
    return chosen


def _label(path: Path, frame: pd.DataFrame, option: str, asked: str | None, known: Iterable[str]) -> str | None:
    """Return the column of labels that was asked for, or a known one; None where there is none."""
    names = [str(name) for name in frame.columns]
    if asked is None:
        return next((name for name in names if name.lower() in known), None)
    if names.count(asked) != 1:
        hint = did_you_mean(asked, names) or f"; it has {listed(names)}"
        raise ProfileError([Problem("", f"{option} must be a column; got `{asked}`{hint}", str(path), 1)], str(path))
    return asked


# --- Reading ------------------------------------------------------------------------------------------------------------


def read_calls(
    path: str | Path,
    columns: Mapping[str, Column | None] | None = None,
    by: str | None = None,
    group: str | None = None,
) -> Recorded:
    """Return the calls in a CSV (also gzipped) or parquet file, by model.

    `by` and `group` name the columns of the model and of the run; by default known names are looked for. Raises
    ProfileError that cites the file, and the line of each mistake.
    """
    file = Path(path)
    frame = table(file, [])
    chosen = _choose(file, [str(name) for name in frame.columns], columns or {})
    model = _label(file, frame, "--by", by, _MODELS)
    run = _label(file, frame, "--group", group, _RUNS)
    needed = [*dict.fromkeys(one.name for one in chosen.values()), *(label for label in (model, run) if label)]
    cells = frame[needed]
    empty = (cells.isna() | (cells == "")).any(axis=1).to_numpy()
    frame = frame[~empty]
    left_out = {"a number or a name is missing": int(empty.sum())}
    if frame.empty:
        raise _refused(file, f"must have a row with a value in each of {listed(needed)}; got none")
    calls = _calls(file, frame, chosen, None if run is None else frame[run].astype(str).to_numpy())
    labels = np.full(len(frame), "model") if model is None else frame[model].astype(str).to_numpy()
    kept = np.ones(len(frame), dtype=bool) if run is None else ~_carried(calls, labels)
    left_out["equal in every number to a call of another run"] = int((~kept).sum())
    by_model = {str(name): calls.take(kept & (labels == name)) for name in np.unique(labels[kept])}
    notes = []
    if "cached" not in chosen:
        notes.append(
            "all of a prompt counts as new: no column of cached tokens; say `--columns cached=NAME` if there is one"
        )
    if run is None:
        notes.append("no column of runs: each call is held out alone, and errors are too small; say `--group NAME`")
    return Recorded(str(path), by_model, {why: count for why, count in left_out.items() if count}, tuple(notes))


def _calls(path: Path, frame: pd.DataFrame, chosen: Mapping[str, Column], runs: np.ndarray | None) -> Calls:
    """Return the calls of all rows, with every number checked."""
    counts = {role: numbers(path, frame, one.name) * one.factor for role, one in chosen.items() if role != "seconds"}
    seconds = times(path, frame, chosen["seconds"].name, chosen["seconds"].factor)
    cached = counts.get("cached", np.zeros(len(frame)))
    new = counts["new"] if "new" in counts else counts["input"] - cached
    wrong = np.flatnonzero(new < 0)
    if len(wrong):
        first = wrong[0]
        got = f"got {cached[first]:g} cached of {counts['input'][first]:g}"
        rule = f"cached tokens are part of the input, and must be no more; {got}, and so in {len(wrong):,} rows"
        remedy = f"if `{chosen['input'].name}` is without the cached ones, say `--columns new={chosen['input'].name}`"
        raise _refused(path, f"{rule}: {remedy}", int(frame.index[first]))
    return Calls(new, cached, counts["output"], seconds, np.arange(len(frame)) if runs is None else runs)


def _carried(calls: Calls, models: np.ndarray) -> np.ndarray:
    """Return which calls an earlier row of another run has too, equal in every number."""
    whole = pd.DataFrame(
        {"model": models, "new": calls.new, "cached": calls.cached, "output": calls.output, "seconds": calls.seconds}
    )
    first = pd.Series(calls.runs).groupby([whole[name] for name in whole.columns]).transform("first")
    return np.asarray(first.to_numpy() != calls.runs)


def _refused(path: Path, message: str, line: int = 0) -> ProfileError:
    return ProfileError([Problem("", message, str(path), line)], str(path))


# --- Fitting ------------------------------------------------------------------------------------------------------------


def fit_recorded(recorded: Recorded, seed: int = 0) -> FittedFile:
    """Return a law for each model. Raises ProfileError, with each reason, where no model can be fitted."""
    models: dict[str, FittedCalls] = {}
    failed: dict[str, str] = {}
    for name, calls in recorded.models.items():
        try:
            models[name] = fit_calls(calls, seed)
        except ValueError as error:
            failed[name] = str(error)
    if not models:
        problems = [Problem(name, why, recorded.file) for name, why in failed.items()]
        raise ProfileError(problems, recorded.file)
    halves = (_pooled(recorded, models, True, seed), _pooled(recorded, models, False, seed))
    return FittedFile(recorded, models, failed, halves)


def _pooled(recorded: Recorded, models: Iterable[str], first: bool, seed: int) -> Errors | None:
    """Return the errors over all models on one half of the runs; None where nothing can be held out."""
    found = [one for one in (held_out(recorded.models[name], first) for name in models) if one is not None]
    if not found:
        return None
    return errors_of(np.concatenate([errors for errors, _ in found]), np.concatenate([runs for _, runs in found]), seed)


# --- Writing ------------------------------------------------------------------------------------------------------------


def _model_data(name: str, one: FittedCalls) -> dict[str, Any]:
    return {
        "model": name,
        "calls": one.calls,
        "runs": one.runs,
        **{key: getattr(one.law, key) for key in COEFFICIENTS},
        "intervals": None if one.intervals is None else {key: list(ends) for key, ends in one.intervals.items()},
        "residual": {
            "shares": list(one.residual.shares),
            "ratios": list(one.residual.ratios),
            "mean": one.residual.mean,
        },
        "held_out": _errors_data(one.errors),
    }


def _errors_data(one: Errors | None) -> dict[str, Any]:
    if one is None:
        return dict.fromkeys(("calls", "runs", "median", "p90", "interval"))
    interval = None if one.interval is None else list(one.interval)
    return {"calls": one.calls, "runs": one.runs, "median": one.median, "p90": one.p90, "interval": interval}


def _names(models: Iterable[str]) -> list[str]:
    """Return names that a scenario takes, each once: `vendor/model:1` becomes `vendor-model-1`."""
    names: list[str] = []
    for model in models:
        name = re.sub(r"[^A-Za-z0-9_.-]+", "-", model).strip("-.")[:90]
        name = name if name[:1].isalpha() else f"model-{name}".rstrip("-")
        same = sum(other == name or other.startswith(f"{name}--") for other in names)
        names.append(f"{name}--{same + 1}" if same else name)
    return names


def _model_yaml(name: str, one: FittedCalls, file: str) -> list[str]:
    """Return the lines of one model."""
    lines = [f"{name}:", f"  # Fitted to {one.calls:,} calls of {one.runs:,} runs in {_plain(file)}."]
    if one.errors is not None:
        median, p90 = (f"{100 * share:.1f} %" for share in (one.errors.median, one.errors.p90))
        lines.append(f"  # Off by {median} (median) and {p90} (p90) on runs that a fit to the other half did not see.")
    lines += ["  kind: api"]
    for key in COEFFICIENTS:
        dimension = units.TIME_PER_TOKEN if key in _PER_TOKEN else units.DURATION
        value = units.exact(float(f"{getattr(one.law, key):.4g}"), dimension).replace("µ", "u")
        lines.append(f"  {key}: {value}{_ends(one, key, dimension)}")
    quantiles = [f'"{100 * s:.6g} %": {r:g}' for s, r in zip(one.residual.shares, one.residual.ratios, strict=True)]
    lines += ["  residual:  # measured / law", "    empirical:", "      quantiles:"]
    lines += [f"        {quantile}" for quantile in quantiles]
    if one.law.cached:
        lines.append("  # cache_hit: 0 %  # state it: of the tokens sent before, the share that is still cached")
    return lines


def _ends(one: FittedCalls, key: str, dimension: units.Dimension) -> str:
    if one.intervals is None:
        return ""
    low, high = (units.format(end, dimension, 2) for end in one.intervals[key])
    return f"  # 95 %: {low} to {high}"


def _plain(text: str) -> str:
    """Return a name without what would end a comment."""
    return "".join(character if character.isprintable() else "?" for character in text)

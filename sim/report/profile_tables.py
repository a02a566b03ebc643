"""Profiles for people and programs: which there are, what one holds, one of its laws in full, and how two differ.

Each view is a report and the same as plain data; numbers in JSON and CSV are not rounded.
Leaves out: charts (`profile_plot`), and reading files.
Checked: tests/test_profile_views.py.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..engine import units
from ..engine.errors import shorten
from ..profile.law import Law, Timing
from ..profile.profile import Device, Profile
from .iteration_tables import iterations_table
from .layout import Report, Table, lay_out, markdown
from .layout import text as as_text
from .numbers import NOTHING, plain
from .profile_laws import (
    SAMPLE,
    Data,
    across,
    good,
    ordered,
    percent,
    range_text,
    range_texts,
    ranges,
    record,
    sample,
    size_text,
    timing,
)

__all__ = ["View", "difference", "law_view", "listing", "overview"]

QUALITIES = ("measured", "imported", "derived", "assumed")


@dataclass(frozen=True, slots=True)
class View:
    """A report, the same as plain data, and its numbers as rows of a table that programs read."""

    report: Report
    data: Data
    rows: tuple[Data, ...]

    def to_data(self) -> Data:
        """Return plain data; what is not known is None."""
        return self.data

    def to_json(self) -> str:
        """Return the data as JSON."""
        return json.dumps(self.data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    def to_csv(self) -> str:
        """Return the rows as CSV, under their names; what is not known is empty."""
        out = io.StringIO()
        columns = list(dict.fromkeys(name for row in self.rows for name in row))
        writer = csv.DictWriter(out, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        return out.getvalue()

    def to_markdown(self) -> str:
        """Return the report as Markdown."""
        return markdown(self.report)

    def to_text(self, styled: bool = False) -> str:
        """Return the report as plain text; `styled` for a terminal."""
        return as_text(lay_out(self.report), styled)


def listing(profiles: Iterable[Profile]) -> View:
    """Return the profiles, a row each: device, laws by quality, dates."""
    data = [_listed(profile) for profile in profiles]
    rows = tuple(
        (one["name"], one["device"] or NOTHING, f"{one['laws']:,}", _mix(one), one["date"] or NOTHING, one["what"])
        for one in data
    )
    table = Table("Profiles", ("name", "device", "laws", "quality", "date", "what"), "<<><<<", rows)
    answer = f"{len(data)} profile{'' if len(data) == 1 else 's'}."
    how = "`coordsim profile show NAME` shows one; scenarios name it as `profile: NAME`."
    return View(Report(("Profiles", how), answer, (table,)), {"profiles": data}, tuple(data))


def _listed(profile: Profile) -> Data:
    dates = sorted({source.date for source in profile.sources.values() if source.date[:1].isdigit()})
    found: list[str] = [profile.source_of(law).quality for law in profile.laws.values()]
    return {
        "name": profile.name,
        "device": profile.device.name if profile.device else None,
        "laws": len(found),
        **{quality: found.count(quality) for quality in QUALITIES},
        "date": " to ".join(dict.fromkeys((dates[0], dates[-1]))) if dates else None,
        "what": profile.what,
    }


def _mix(one: Data) -> str:
    return ", ".join(f"{one[quality]:,} {quality}" for quality in QUALITIES if one[quality]) or NOTHING


def overview(profile: Profile) -> View:
    """Return what a profile holds: device, environment, sources, and each law with how well it is known."""
    records = [record(profile, name) for name in ordered(profile)]
    data = {**_listed(profile), **profile.model_dump(mode="json", include={"environment", "sources"})}
    data |= {"device": profile.device.model_dump(mode="json") if profile.device else None, "laws": records}
    data |= {"iterations": {name: one.describe() for name, one in profile.iterations.items()}}
    tables = [_device(profile.device), _facts("Environment", profile.environment), _sources(profile)]
    tables.append(iterations_table(profile))
    for section in dict.fromkeys(one["section"] for one in records):
        inside = [one for one in records if one["section"] == section]
        tables += [_known(section, inside), _forms(f"{section}: what the laws are", inside)]
    notes = [f"{one['law']}: {doubt}" for one in records for doubt in one["doubts"]]
    notes.append(_READING)
    heading = (f"{profile.name}: {profile.what}" if profile.what else profile.name,)
    kept = tuple(table for table in tables if table is not None and table.rows)
    rows = tuple(row for one in records for row in _flat(one))
    count = len(profile.iterations)
    more = f" {count} measured iteration{'s'[: count != 1]}." if count else ""
    return View(Report(heading, _how_good(records, _listed(profile)) + more, kept, tuple(notes)), data, rows)


_READING = (
    "Held-out errors are |predicted / measured - 1| on what the fit did not see. The interval is that of the median of "
    "measured / predicted, 95 %; the residual spans its p5 to p95."
)


def _how_good(records: Sequence[Data], about: Data) -> str:
    held = [(split["median"], split["p95"]) for one in records for split in one["held_out"]]
    text = f"{len(records)} law{'' if len(records) == 1 else 's'} ({_mix(about)})"
    if not held:
        return f"{text}; no held-out error is stated."
    median, p95 = (float(np.median(column)) for column in zip(*held, strict=True))
    worst = max(split["p95"] for one in records for split in one["held_out"])
    half = f"half of the held-out splits have a median error of at most {percent(median)} and a p95 of at most"
    return f"{text}; {half} {percent(p95)}; the largest p95 is {percent(worst)}."


def _flat(one: Data) -> Iterator[Data]:
    """Yield a row of the CSV for each split of a law; one row where it has none."""
    low, high = one["interval"] or (None, None)
    residual = one["residual"] or {}
    ranges = " ".join(f"{size}={bounds[0]:g}:{bounds[1]:g}" for size, bounds in one["over"].items())
    for split in one["held_out"] or [{}]:
        yield {
            **{key: one[key] for key in ("law", "quality", "source", "form", "points", "repeats")},
            "over": ranges,
            **{key: split.get(key) for key in ("split", "median", "p95")},
            "held_out_points": split.get("points"),
            "interval_low": low,
            "interval_high": high,
            **{f"residual_{key}": residual.get(key) for key in ("of", "p5", "p95")},
            "doubts": "; ".join(one["doubts"]),
        }


def _known(title: str, records: Sequence[Data]) -> Table:
    rows = []
    for one in records:
        splits = [(each["split"], percent(each["median"]), percent(each["p95"])) for each in one["held_out"]]
        residual = one["residual"]
        spread = f"{residual['of']} {residual['p5']:.3g}–{residual['p95']:.3g}" if residual else NOTHING
        known = (_span(one["interval"]), spread, one["quality"], str(len(one["doubts"]) or ""))
        first, *more = splits or [(NOTHING, NOTHING, NOTHING)]
        rows.append((one["law"], f"{one['points']:,}", *first, *known))
        rows += [("", "", *each, "", "", "", "") for each in more]
    columns = ("law", "points", "held out by", "median", "p95", "interval", "residual", "quality", "doubts")
    return Table(title, columns, "<><>><<<>", tuple(rows))


def _forms(title: str, records: Sequence[Data]) -> Table:
    rows = tuple((one["law"], one["form"], range_texts(one)) for one in records)
    return Table(title, ("law", "form", "range"), "<<<", rows)


def _device(device: Device | None) -> Table | None:
    if device is None:
        return None
    rates = {
        "memory bandwidth": device.memory_bandwidth,
        "link": device.link,
        "host link": device.host_link,
        "network": device.network,
    }
    facts = {"name": device.name, "memory": device.memory and units.format(device.memory, units.SIZE)}
    facts |= {name: rate and units.format(rate, units.BANDWIDTH) for name, rate in rates.items()}
    facts |= {f"arithmetic, {one}": units.format(rate, units.FLOP_RATE) for one, rate in device.arithmetic.items()}
    facts |= {"devices per node": device.per_node and str(device.per_node), "source": device.source}
    return _facts("Device", {name: str(value) for name, value in facts.items() if value})


def _facts(title: str, facts: Mapping[str, str]) -> Table:
    return Table(title, ("", ""), "<<", tuple(facts.items()))


def _sources(profile: Profile) -> Table:
    """Return the sources; what is long is cut short here, and whole in JSON."""
    columns = ("name", "title", "quality", "licence", "machine", "date", "version")
    rows = tuple(
        (name, *(shorten(getattr(one, field), _LONGEST) for field in columns[1:]))
        for name, one in profile.sources.items()
    )
    return Table("Sources", columns, "<" * len(columns), rows)


_LONGEST = 40


def law_view(profile: Profile, name: str) -> View:
    """Return one law in full, with predictions across its range and beyond. Raises ProfileError, naming what is near."""
    asked = timing(profile, name)
    one = record(profile, name)
    predictions = list(_predictions(asked))
    source = profile.source_of(asked.law)
    facts = {
        "operation": asked.op.what,
        "seconds": one["formula"],
        "form": one["form"],
        **{size: f"{range_text(one['over'][size], unit)} ({unit})" for size, unit in asked.op.sizes.items() if size in one["over"]},
        "points": f"{one['points']:,}" + (f", {one['repeats']:,} measurements" if one["repeats"] else ""),
        "interval": _span(one["interval"]),
        "source": f"{source.title}{f' {source.version}' if source.version else ''} ({source.quality}, {source.date})",
        "machine": source.machine,
        "licence": source.licence,
    }  # fmt: skip
    tables = [
        _facts("The law", {key: value for key, value in facts.items() if value}),
        _held_out(one),
        _residual(asked.law),
        _predicted(asked, predictions),
    ]
    heading = (f"{name} of {profile.name}",)
    report = Report(heading, good(one), tuple(table for table in tables if table.rows), (*one["doubts"], _READING))
    rows = tuple({**row["sizes"], **{key: row[key] for key in row if key != "sizes"}} for row in predictions)
    rows = tuple({**row, "outside": " ".join(row["outside"])} for row in rows)
    return View(report, {**one, "profile": profile.name, "predictions": predictions}, rows)


def _held_out(one: Data) -> Table:
    rows = tuple(
        (each["split"], f"{each['points']:,}", percent(each["median"]), percent(each["p95"]))
        for each in one["held_out"]
    )
    return Table("Held-out error", ("split", "points", "median", "p95"), "<>>>", rows)


def _residual(law: Law) -> Table:
    if law.residual is None:
        return Table("Residual", ("",), "<", ())
    shares = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
    row = tuple(f"{value:.3g}" for value in law.residual.distribution.quantile(shares))
    title = f"Residual: measured over predicted, of {law.residual.of}"
    return Table(title, tuple(f"p{100 * share:g}" for share in shares), ">" * len(row), (row,))


def _predictions(asked: Timing) -> Iterator[Data]:
    sizes = across(asked)
    seconds = asked.predict(sizes)
    residual = asked.law.residual
    low, high = (None, None) if residual is None else residual.distribution.quantile((0.05, 0.95)).tolist()
    for number, value in enumerate(seconds.tolist()):
        at = {name: float(values[number]) for name, values in sizes.items()}
        beyond = [name for name, (least, most) in asked.law.over.items() if not least <= at[name] <= most]
        ends = {"low": value * low, "high": value * high} if low is not None and high is not None else {}
        yield {"sizes": at, "seconds": value, **ends, "outside": beyond}


def _predicted(asked: Timing, predictions: Sequence[Data]) -> Table:
    names = list(asked.op.sizes)
    rows = tuple(
        (
            *(size_text(one["sizes"][name], asked.op.sizes[name]) for name in names),
            plain(one["seconds"], "s"),
            f"{plain(one['low'], 's')}–{plain(one['high'], 's')}" if "low" in one else NOTHING,
            f"outside its range in {', '.join(one['outside'])}" if one["outside"] else "",
        )
        for one in predictions
    )
    free = [name for name in names if name not in asked.law.over]
    note = f"no range is stated for {', '.join(free)}" if free else ""
    columns = (*names, "predicted", "p5–p95", "")
    return Table("Predictions across the range", columns, ">" * (len(names) + 1) + "<<", rows, note)


def difference(a: Profile, b: Profile) -> View:
    """Return how `b` differs from `a`: laws in one only, seconds b / a law by law, held-out errors, machine."""
    in_a, in_b = ([name for name in ordered(one) if name not in other.laws] for one, other in ((a, b), (b, a)))
    ratios = [_ratio(a, b, name) for name in ordered(a) if name in b.laws]
    changes = dict(_changes(a, b))
    names = (a.name, b.name) if a.name != b.name else ("first", "second")
    alone = [*((name, names[0]) for name in in_a), *((name, names[1]) for name in in_b)]
    tables = (
        _ratios(ratios),
        _errors(ratios, names),
        Table("Laws in one only", ("law", "in"), "<<", tuple(alone)),
        Table("What else differs", ("", *names), "<<<", tuple((key, *pair) for key, pair in changes.items())),
    )
    notes = [f"{one['law']}: the ranges of {', '.join(one['apart'])} do not overlap" for one in ratios if one["apart"]]
    notes.append(f"Ratios are of predicted seconds, at up to {SAMPLE} sizes inside both ranges, even in the logarithm.")
    shown = tuple(table for table in tables if table.rows)
    report = Report((f"{names[1]} against {names[0]}",), _answer(ratios, names), shown, tuple(notes))
    data = {"a": a.name, "b": b.name, "only_in_a": in_a, "only_in_b": in_b, "laws": ratios, "changes": changes}
    rows = [{**one, "apart": " ".join(one["apart"])} for one in ratios]
    kept = ("law", "sample", "median", "p5", "p95", "apart")
    compared = [{key: row[key] for key in kept} for row in rows]
    return View(report, data, (*compared, *({"law": name, "only_in": side} for name, side in alone)))


def _ratio(a: Profile, b: Profile, name: str) -> Data:
    """Return quantiles of seconds b / a over a common sample of sizes; None where there is none, or a is 0."""
    one, other = timing(a, name), timing(b, name)
    first, second = ranges(one), ranges(other)
    common = {size: (max(first[size][0], second[size][0]), min(first[size][1], second[size][1])) for size in first}
    apart = [size for size, (low, high) in common.items() if low > high]
    found: Data = {"law": name, "sample": 0, "median": None, "p5": None, "p95": None, "apart": apart}
    found |= {side: [each.model_dump() for each in law.held_out] for side, law in (("a", one.law), ("b", other.law))}
    if apart:
        return found
    sizes = sample(common, one)
    before, after = one.predict(sizes), other.predict(sizes)
    known = before > 0
    if not known.any():
        return found
    values = np.quantile(after[known] / before[known], [0.5, 0.05, 0.95]).tolist()
    return found | {"sample": int(known.sum()), **dict(zip(("median", "p5", "p95"), values, strict=True))}


def _ratios(ratios: Sequence[Data]) -> Table:
    rows = tuple(
        (one["law"], str(one["sample"]), *(_times(one[key]) for key in ("median", "p5", "p95"))) for one in ratios
    )
    return Table("Seconds, second over first", ("law", "sizes", "median", "p5", "p95"), "<>>>>", rows)


def _times(value: float | None) -> str:
    return NOTHING if value is None else f"× {value:.3g}"


def _errors(ratios: Sequence[Data], names: tuple[str, str]) -> Table:
    rows = []
    for one in ratios:
        by_split = [{each["split"]: each for each in one[side]} for side in ("a", "b")]
        for split in dict.fromkeys((*by_split[0], *by_split[1])):
            found = [side.get(split) for side in by_split]
            cells = [f"{percent(each['median'])}, {percent(each['p95'])}" if each else NOTHING for each in found]
            rows.append((one["law"], split, *cells))
    return Table("Held-out error: median, p95", ("law", "split", *names), "<<>>", tuple(rows))


def _changes(a: Profile, b: Profile) -> Iterator[tuple[str, list[str]]]:
    """Yield the facts about device, environment and sources that are not the same in both."""
    facts = [_told(profile) for profile in (a, b)]
    for key in dict.fromkeys((*facts[0], *facts[1])):
        pair = [each.get(key, NOTHING) for each in facts]
        if pair[0] != pair[1]:
            yield key, pair


def _told(profile: Profile) -> dict[str, str]:
    device = _device(profile.device)
    told = {f"device: {key}": value for key, value in (device.rows if device else ())}
    told |= {f"environment: {key}": value for key, value in profile.environment.items()}
    for name, source in profile.sources.items():
        told |= {f"source {name}: {key}": getattr(source, key) for key in ("title", "version", "machine", "date")}
    return told


def _answer(ratios: Sequence[Data], names: tuple[str, str]) -> str:
    known = sorted((one["median"], one["law"]) for one in ratios if one["median"] is not None)
    if not known:
        return "No law can be compared: none is in both with ranges that overlap."
    (low, fastest), (high, slowest) = known[0], known[-1]
    middle = float(np.median([value for value, _ in known]))
    laws = f"the {len(known)} laws" if len(known) > 1 else "the law"
    text = f"Over {laws} that can be compared, {names[1]} takes {middle:.3g} times as long as {names[0]} in the median"
    return text + (f": from {low:.3g} ({fastest}) to {high:.3g} ({slowest})." if len(known) > 1 else ".")


def _span(ends: Sequence[float] | None) -> str:
    return f"{ends[0]:.3g}–{ends[1]:.3g}" if ends else NOTHING

"""What a comparison says to a page: what B saves, by what, for whom and where; and how sure that is.

Leaves out: the charts (`compare_charts`); the words of the verdict (`compare_words`).
Checked: tests/test_compare_sections.py.
"""

from __future__ import annotations

from collections.abc import Iterator

from ...analysis.comparison import ComparisonResult, Saving
from ...analysis.contrast import times
from ...analysis.replicate import LEAST
from .. import compare_tables as tables
from ..compare_words import name_of, replications, statement, unit_of_saving
from ..layout import Table
from ..numbers import counted, listed, plain
from ..page.parts import Chart, Missing, Part, Section
from ..page.provenance import Provenance
from .compare_charts import (
    by_category,
    by_policy,
    by_task,
    gain,
    is_of_runtimes,
    longer,
    over_grid,
    said_of_grid,
    within_replications,
)
from .further import repeat
from .pieces import cells, known, swept, tidy

__all__ = ["figures", "parts"]


def parts(found: ComparisonResult, source: Provenance) -> list[Part]:
    """Return what a comparison says, by section."""
    answer = Part(
        Section.ANSWER,
        " ".join((statement(found), *_worse(found))),
        facts=tuple(_facts(found)),
        missing=tuple(_unresolved(found, source)),
    )
    return [answer, _runtime(found, source), _sure(found, source)]


def figures(found: ComparisonResult) -> dict[str, Chart]:
    """Return all charts of a comparison by name, that which answers the question first."""
    settled = within_replications(found)
    return {chart.name: chart for chart in (*_drawn(found), *((settled,) if settled else ()))}


def _drawn(found: ComparisonResult) -> tuple[Chart, ...]:
    made = [
        by_category(found),
        None if found.ablation is None else by_policy(found, found.ablation),
        by_task(found),
        None if found.region is None else over_grid(found, found.region),
    ]
    return tuple(one for one in made if one is not None)


def _worse(found: ComparisonResult) -> Iterator[str]:
    """Yield which categories surely take longer under B although it does not cost more in all: as plain to see as what it saves."""
    if found.saving.verdict == "costs" or not (worse := longer(found)):
        return
    told = listed([f"{one.category} ({cells(times(one.saving, -1.0), 's')})" for one in worse])
    yield f"But it takes longer in {told}."


def _facts(found: ComparisonResult) -> Iterator[tuple[str, str, str]]:
    """Yield what B saves, of what, for which share of tasks, and over what."""
    saving, unit = found.saving, unit_of_saving(found)
    worse = known(saving.amount) and saving.amount.value < 0
    word = ("loses" if worse else "gains") if found.more_is_better else ("costs" if worse else "saves")
    yield f"{found.variant} {word}, in {name_of(found.metric)}", _amount(saving, unit, worse), saving.verdict
    if known(saving.share):
        share = times(saving.share, -1.0) if worse else saving.share
        yield "as a share of A", cells(share, "share"), ""
    yield f"{name_of(found.metric)} under {found.baseline} (A)", cells(saving.baseline, unit), ""
    yield f"{name_of(found.metric)} under {found.variant} (B)", cells(saving.variant, unit), ""
    for one in longer(found)[:1]:
        yield f"longer in {one.category}, mean per task", cells(times(one.saving, -1.0), "s"), "costs"
    if found.tasks is not None and known(found.tasks.slower):
        yield "tasks that get slower", cells(found.tasks.slower, "share"), ""
    paired = "paired" if found.paired else "not paired"
    yield "compared over", f"{replications(found.replications)}, {paired}", ""


def _amount(saving: Saving, unit: str, worse: bool) -> str:
    return cells(times(saving.amount, -1.0) if worse else saving.amount, unit)


def _unresolved(found: ComparisonResult, source: Provenance) -> Iterator[Missing]:
    """Yield the replications that would resolve what is not."""
    if found.saving.verdict == "not resolved" and found.replications > 1 and found.saving.needed:
        what = "Whether there is a saving at all is not resolved"
        yield Missing(what, _more(found, source, found.saving.needed))


# ---------------------------------------------------------------------------------------------------------------------
# What would another runtime save?


def _runtime(found: ComparisonResult, source: Provenance) -> Part:
    other: list[Table] = [tidy(tables.changes_table(found.changes))] if found.changes else []
    other.append(_metrics(found))
    if found.ablation is not None and not any(one.name == "policies" for one in _drawn(found)):
        other.append(tidy(tables.ablation_table(found.ablation, found)))
    return Part(
        Section.RUNTIME,
        _words(found),
        charts=_drawn(found),
        tables=tuple(other),
        notes=tuple(tables.notes(found)),
        missing=tuple(_missing(found, source)),
    )


def _words(found: ComparisonResult) -> str:
    """Return what B saves, for how many tasks it is worse, and where it saves nothing."""
    said = [statement(found), *_worse(found)]
    if found.changes and not is_of_runtimes(found):
        values = counted(len(found.changes), "value")
        said.insert(
            0,
            f"A ({found.baseline}) and B ({found.variant}) differ in {values} of the scenario, not in the runtime alone.",
        )
    if found.tasks is not None and known(found.tasks.slower):
        slower = found.tasks.slower
        whom = "No task gets slower" if slower.value == 0 else f"{cells(slower, 'share')} of tasks get slower"
        said.append(f"{whom}, of {found.tasks.both:,} done under both.")
    if found.region is not None:
        said.append(said_of_grid(found, found.region))
    return " ".join(said)


def _metrics(found: ComparisonResult) -> Table:
    made = tidy(tables.metrics_table(found), "per task")
    note = f"p of {name_of(found.metric)} is its own, as it was declared; the others are Holm's, for all metrics and categories at once"
    return Table(made.title, made.columns, made.align, made.rows, note)


def _missing(found: ComparisonResult, source: Provenance) -> Iterator[Missing]:
    if found.replications == 1:
        yield Missing(
            "An interval of the saving, and a verdict: one replication has neither", _more(found, source, LEAST)
        )
    if found.ablation is None and len(found.changes) > 1 and not any("too many" in one for one in found.notes):
        what = "What each policy saves" if is_of_runtimes(found) else "What each change saves"
        yield Missing(
            f"{what}, alone and last", repeat("compare", source, "--ablate", drop=("--no-ablate=", "--ablate="))
        )
    alone = [one.path for one in found.changes if not (one.baseline and one.variant)]  # only one side has these
    if found.region is None and (values := swept(source, alone)):
        what = "Where there is no saving: the comparison over a value that both have"
        yield Missing(what, repeat("compare", source, "--over", values))


# ---------------------------------------------------------------------------------------------------------------------
# How sure are we?


def _sure(found: ComparisonResult, source: Provenance) -> Part:
    settled = within_replications(found)
    return Part(
        Section.SURE,
        _how_sure(found),
        charts=(settled,) if settled else (),
        notes=(_power(found),) if found.saving.verdict == "not resolved" and found.saving.needed else (),
        warnings=tuple(tables.warnings(found)),
        missing=tuple(_unresolved(found, source))
        or ((Missing("An interval", _more(found, source, LEAST)),) if found.replications == 1 else ()),
    )


def _how_sure(found: ComparisonResult) -> str:
    """Return over what the interval is, and which verdicts are open."""
    sure = f"{100 * found.confidence:g} %"
    paired = (
        "whose tasks meet the same draws under both"
        if found.paired
        else "with a seed of its own for each side, not paired"
    )
    if found.replications == 1:
        return f"One replication, {paired}: there is no interval, and no verdict."
    shown = cells(found.saving.amount, unit_of_saving(found))
    said = [f"{replications(found.replications)}, {paired}: the {sure} interval is {shown}."]
    verdict = {"saves": "B is better", "costs": "B is worse", "none": f"no {gain(found)} to speak of"}.get(
        found.saving.verdict, "not resolved"
    )
    said.append(f"The verdict: {verdict}.")
    if found.region is not None:
        said.append(said_of_grid(found, found.region))
    unsettled = [
        name for name, grows in zip((found.baseline, found.variant), found.saving.unsettled, strict=True) if grows
    ]
    said += [
        f"Under {name} the number of tasks still grew, so its times say how long the run was." for name in unsettled
    ]
    return " ".join(said)


def _power(found: ComparisonResult) -> str:
    one, told = found.saving, f"tell a difference of {plain(found.tolerance, 'share')} from none"
    seen = f"; {one.as_seen} would do if the difference is as large as it looks" if one.as_seen else ""
    return f"{counted(one.needed or 0, 'replication')} in all would {told}{seen}."


def _more(found: ComparisonResult, source: Provenance, count: int) -> str:
    return repeat("compare", source, "--replications", str(max(count, found.replications + 1)))

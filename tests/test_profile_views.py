"""Views of profiles: lists, tables, differences and charts say what the laws say."""

import csv
import io
import json
import re
from typing import Any

import numpy as np
import pytest

from coordsim.sim.engine.errors import ProfileError
from coordsim.sim.profile.ops import OPS
from coordsim.sim.profile.profile import Profile
from coordsim.sim.report.page.theme import CONFIG
from coordsim.sim.report.profile_laws import across, formula, ranges, sample, summary, timing
from coordsim.sim.report.profile_page import page
from coordsim.sim.report.profile_plot import NOT_SHIPPED, figure, panels
from coordsim.sim.report.profile_tables import View, difference, law_view, listing, overview

GEMM, ENCODE = "gemm[dtype=bf16]", "encode[codec=json]"
BASE = {"overhead": "3.05 us", "compute": "770 TFLOP/s", "memory": "2.7 TB/s"}
SIZES = [float(size) for size in np.geomspace(64, 65536, 11).round()]


def gemm() -> dict[str, Any]:
    """Return a grid over a roofline, imported: no points."""
    m_n = {"axes": {"m": "1 64 4096", "n": "256 8192"}, "nodes": "0.1 0 0 0 -0.1 0"}
    return {
        "form": {"grid": {"base": {"roofline": BASE}, "tables": [m_n, {"axes": {"k": "256 8192"}, "nodes": "0.05 0"}]}},
        "over": {"m": "1 8192", "n": "64 28672", "k": "64 28672"},
        "source": "public",
        "points": 1234,
        "interval": "0.98 1.03",
        "held_out": [
            {"split": "point", "points": 200, "median": 0.035, "p95": 0.12},
            {"split": "shape", "points": 300, "median": 0.061, "p95": 0.25},
        ],
        "residual": {"of": "shapes", "shares": "0 0.05 0.5 0.95 1", "ratios": "0.8 0.9 1 1.2 1.4"},
        "doubts": ["one library version only"],
    }


def encode() -> dict[str, Any]:
    """Return a sum measured at eleven sizes, each point 2 % above the law."""
    seconds = [1.02 * (2e-6 + size * 1e-9) for size in SIZES]
    measured = {"sizes": {"bytes": SIZES}, "seconds": seconds}
    measured |= {"low": [0.9 * one for one in seconds], "high": [1.1 * one for one in seconds]}
    return {
        "form": {"sum": {"overhead": "2 us", "terms": {"bytes": "1 ns"}}},
        "over": {"bytes": "64 65536"},
        "source": "here",
        "points": len(SIZES),
        "repeats": 990,
        "held_out": [{"split": "point", "points": 11, "median": 0.02, "p95": 0.03}],
        "residual": {"of": "repeats", "ratio": {"lognormal": {"median": 1, "p95": 1.3}}},
        "measured": measured,
    }


def profile(name: Any = "both", **more: Any) -> Profile:
    """Return a profile with a grid, a sum and a constant; `more` replaces laws."""
    source = {"title": "Probes", "quality": "measured", "machine": "a desk", "date": "2026-05-02"}
    public = {
        **source,
        "title": "Tables",
        "quality": "imported",
        "date": "2026-01-30",
        "licence": "Apache-2.0",
        "version": "0.9",
    }
    laws = {ENCODE: encode(), GEMM: gemm(), "launch": {"form": {"constant": "4 us"}, "source": "here", "points": 1}}
    data = {
        "coordsim_profile": 1,
        "name": name,
        "what": "two kernels <and> a crossing",
        "device": {"name": "Device X", "memory": "80 GB", "memory_bandwidth": "3.35 TB/s", "arithmetic": {"bf16": "989 TFLOP/s"}},
        "environment": {"driver": "550.1"},
        "sources": {"here": source, "public": public},
        "laws": {**laws, **more},
    }  # fmt: skip
    return Profile.model_validate(data)


def cells(view: View, title: str) -> list[tuple[str, ...]]:
    """Return the rows of the table with this title."""
    (table,) = [table for table in view.report.tables if table.title == title]
    return list(table.rows)


def read(view: View) -> list[dict[str, str]]:
    """Return the rows of the CSV."""
    return list(csv.DictReader(io.StringIO(view.to_csv())))


def test_a_list_has_a_row_for_each_profile() -> None:
    """Device, laws, their qualities and the span of dates."""
    view = listing([profile(), profile("other")])
    first, second = cells(view, "Profiles")
    assert first[:5] == ("both", "Device X", "3", "2 measured, 1 imported", "2026-01-30 to 2026-05-02")
    assert second[0] == "other"
    assert [one["imported"] for one in read(view)] == ["1", "1"]


def test_a_law_is_written_in_words_and_numbers() -> None:
    """A roofline, a grid over it, a sum with a rate, a constant."""
    roofline = "3.05 µs + max(FLOP / 770 TFLOP/s, bytes moved / 2.7 TB/s)"
    laws = profile(norm={"form": {"roofline": BASE}, "source": "here"}).laws
    assert formula(laws["norm"].form) == roofline
    assert formula(laws[GEMM].form) == f"({roofline}) × exp(tables over m × n (6 nodes) and k (2 nodes))"
    assert formula(laws[ENCODE].form) == "2 µs + bytes / 1 GB/s"
    assert formula(laws["launch"].form) == "4 µs"


def test_an_overview_has_each_law_with_its_errors_in_the_order_of_operations() -> None:
    """Kernels, then the device and its host, then coordination; a line for each split."""
    view = overview(profile())
    titles = [table.title for table in view.report.tables]
    places = [titles.index(title) for title in ("Kernels of a transformer", "The device and its host", "Coordination")]
    assert places == sorted(places)
    first, second = cells(view, "Kernels of a transformer")
    assert first == (GEMM, "1,234", "point", "3.5 %", "12 %", "0.98–1.03", "shapes 0.9–1.2", "imported", "1")
    assert second[:5] == ("", "", "shape", "6.1 %", "25 %")
    assert cells(view, "Kernels of a transformer: what the laws are")[0][1:] == (
        "grid of 2 tables (3×2, 2), 8 nodes, over a roofline", "m 1–8,192, n 64–28,672, k 64–28,672",
    )  # fmt: skip
    assert ("memory", "80 GB") in cells(view, "Device")
    assert ("driver", "550.1") in cells(view, "Environment")
    assert f"{GEMM}: one library version only" in view.report.notes


def test_json_and_csv_of_an_overview_hold_unrounded_numbers() -> None:
    """The same errors in both; the constant has none."""
    view = overview(profile())
    laws = {one["law"]: one for one in json.loads(view.to_json())["laws"]}
    assert [one["p95"] for one in laws[GEMM]["held_out"]] == [0.12, 0.25]
    assert laws[ENCODE]["residual"]["p95"] == pytest.approx(1.3)
    rows = read(view)
    assert [(row["split"], row["p95"]) for row in rows if row["law"] == GEMM] == [("point", "0.12"), ("shape", "0.25")]
    assert [row["median"] for row in rows if row["law"] == "launch"] == [""]


@pytest.mark.parametrize("name", [GEMM, ENCODE, "launch"])
def test_predictions_of_a_law_are_those_of_runs(name: str) -> None:
    """Every row is what Timing.seconds gives, and is flagged where Timing notes a size outside of the range."""
    view = law_view(profile(), name)
    assert view.data["predictions"]
    for row in view.data["predictions"]:
        asked = timing(profile(), name)
        assert row["seconds"] == pytest.approx(asked.seconds(row["sizes"]))
        assert bool(row["outside"]) == bool(asked.flags())


def test_a_prediction_beyond_the_range_is_flagged_in_words() -> None:
    """Four times the largest size stands in the table, and says so."""
    view = law_view(profile(), ENCODE)
    rows = {row[0]: row for row in cells(view, "Predictions across the range")}
    assert rows["262 kB"][1:] == ("264 µs", "203 µs–343 µs", "outside its range in bytes")
    assert rows["65.5 kB"][1:] == ("67.5 µs", "52 µs–87.8 µs", "")
    assert "| 262 kB | 264 µs |" in view.to_markdown()


def test_a_law_that_is_not_there_is_refused_with_the_nearest() -> None:
    """The same from tables and from charts."""
    for view in (law_view, figure):
        with pytest.raises(
            ProfileError, match=r"profile both.*\n?.*has no law `gemm\[dtype=bf6\]`; did you mean `gemm\[dtype=bf16\]`"
        ):
            view(profile(), "gemm[dtype=bf6]")


def test_a_profile_does_not_differ_from_itself() -> None:
    """Every ratio is 1, and nothing else is listed."""
    view = difference(profile(), profile())
    assert [(one["median"], one["p5"], one["p95"]) for one in view.data["laws"]] == [(1, 1, 1)] * 3
    assert (view.data["only_in_a"], view.data["only_in_b"], view.data["changes"]) == ([], [], {})


def test_twice_the_seconds_are_a_ratio_of_two() -> None:
    """Of the law that was doubled only; its doubled error stands beside the other's."""
    slow = encode() | {"form": {"sum": {"overhead": "4 us", "terms": {"bytes": "2 ns"}}}}
    slow["held_out"] = [{"split": "point", "points": 11, "median": 0.04, "p95": 0.06}]
    view = difference(profile(), profile("slow", **{ENCODE: slow}))
    found = {one["law"]: (one["p5"], one["median"], one["p95"]) for one in view.data["laws"]}
    assert found[ENCODE] == pytest.approx((2, 2, 2))
    assert found[GEMM] == found["launch"] == (1, 1, 1)
    assert (ENCODE, "point", "2 %, 3 %", "4 %, 6 %") in cells(view, "Held-out error: median, p95")
    assert "slow takes 1 times as long as both in the median: from 1" in view.report.answer
    assert f"2 ({ENCODE})" in view.report.answer


def test_laws_in_one_only_and_changes_of_machine_are_listed() -> None:
    """By name, with both values."""
    more = profile("more", norm={"form": {"constant": "1 us"}, "source": "here"})
    more = more.model_copy(update={"environment": {"driver": "560.2"}})
    view = difference(profile(), more)
    assert view.data["only_in_b"] == ["norm"]
    assert cells(view, "Laws in one only") == [("norm", "more")]
    assert cells(view, "What else differs") == [("environment: driver", "550.1", "560.2")]
    assert read(view)[-1]["only_in"] == "more"


def test_ranges_that_do_not_overlap_are_not_compared() -> None:
    """No ratio is given, and the size is named."""
    far = encode() | {"over": {"bytes": "1000000 2000000"}}
    view = difference(profile(), profile("far", **{ENCODE: far}))
    (one,) = [one for one in view.data["laws"] if one["law"] == ENCODE]
    assert (one["median"], one["apart"]) == (None, ["bytes"])
    assert f"{ENCODE}: the ranges of bytes do not overlap" in view.report.notes


def test_the_sample_fills_both_ends_of_the_range_and_repeats() -> None:
    """In each size, a quarter of it lies in each quarter of the logarithmic range, give or take rounding to whole sizes."""
    asked = timing(profile(), GEMM)
    sizes = sample(ranges(asked), asked)
    assert all(np.array_equal(sizes[name], again) for name, again in sample(ranges(asked), asked).items())
    for name, (low, high) in ranges(asked).items():
        shares = np.log(sizes[name] / low) / np.log(high / low)
        assert (shares >= 0).all()
        assert (shares <= 1).all()
        assert np.histogram(shares, 4, (0, 1))[0] / len(shares) == pytest.approx(0.25, abs=0.06)


def test_a_call_never_has_more_kv_heads_than_heads() -> None:
    """Neither in the table across the range nor in the sample."""
    over = {"batch": "1 64", "heads": "1 64", "kv_heads": "1 64", "head_size": "64 128", "context": "0 8192"}
    name = "attention.decode[dtype=bf16]"
    asked = timing(profile(**{name: {"form": {"roofline": BASE}, "over": over, "source": "here"}}), name)
    for sizes in (across(asked), sample(ranges(asked), asked)):
        assert (sizes["kv_heads"] <= sizes["heads"]).all()
        assert sizes["context"].min() == 0
        assert np.isfinite(asked.predict(sizes)).all()


def traces(drawn: Any, panel: int, name: str) -> list[Any]:
    """Return the traces of this name in a panel."""
    axis = "x" if panel == 1 else f"x{panel}"
    return [one for one in drawn.data if one.name == name and (one.xaxis or "x") == axis]


def test_charts_hold_the_points_and_the_law() -> None:
    """Points as measured with their intervals; the line is what the law predicts; predicted stands against measured."""
    drawn = figure(profile(), ENCODE)
    asked = timing(profile(), ENCODE)
    (points,) = traces(drawn, 1, "measured")
    assert list(points.x) == SIZES
    assert points.y + points.error_y.array == pytest.approx(1.1 * points.y)
    line = traces(drawn, 1, "law")[0]
    assert line.y == pytest.approx(asked.predict({"bytes": np.array(line.x)}))
    (against,) = traces(drawn, 4, "points")
    assert against.x / against.y == pytest.approx(np.full(len(SIZES), 1.02))
    assert [list(bar.y) for bar in drawn.data if bar.type == "bar"] == [[2.0], [3.0]]
    assert (drawn.layout.xaxis.type, drawn.layout.yaxis.type) == ("log", "log")


def test_a_lognormal_residual_lies_on_the_straight_line() -> None:
    """The Q–Q line of a lognormal with p95 1.3 is straight, through 1 at the median and 1.3 at p95."""
    drawn = figure(profile(), ENCODE)
    (curve,) = traces(drawn, 2, "residual of repeats")
    assert np.exp(np.interp([0, 1.6448536], curve.x, np.log(curve.y))) == pytest.approx([1, 1.3], rel=1e-3)
    assert np.diff(np.log(curve.y)) / np.diff(curve.x) == pytest.approx(np.log(1.3) / 1.6448536, rel=1e-6)


def test_bands_are_the_interval_and_the_residual_around_the_law() -> None:
    """The interval's polygon goes from 0.98 to 1.03 of the law, the residual's from its p5 to its p95."""
    drawn = figure(profile(), GEMM)
    line = next(one for one in drawn.data if one.legendgroup == "0" and one.mode == "lines" and one.fill is None)
    for name, low, high in (("interval of the median", 0.98, 1.03), ("residual p5–p95", 0.9, 1.2)):
        band = traces(drawn, 1, name)[0]
        half = len(band.y) // 2
        assert band.y[:half] / line.y == pytest.approx(np.full(half, low))
        assert band.y[half:][::-1] / line.y == pytest.approx(np.full(half, high))


def test_a_law_without_points_says_so_and_shows_its_levels() -> None:
    """On a level curve the law takes the time that the curve is labelled with."""
    drawn = figure(profile(), GEMM)
    assert sum(NOT_SHIPPED in note.text for note in drawn.layout.annotations) == 2
    curve = traces(drawn, 4, "100 µs")[0]
    asked = timing(profile(), GEMM)
    names = [drawn.layout.xaxis4.title.text.split()[0], drawn.layout.yaxis4.title.text.split()[0]]
    (other,) = {"m", "n", "k"} - set(names)
    low, high = ranges(asked)[other]
    sizes = {
        names[0]: np.array(curve.x),
        names[1]: np.array(curve.y),
        other: np.full(len(curve.x), round((low * high) ** 0.5)),
    }
    # Between two of the 48 places along the axis, which are a factor of 1.2 apart, the curve is joined straight.
    assert asked.predict(sizes) == pytest.approx(np.full(len(curve.x), 1e-4), rel=0.02)


def test_colour_is_never_alone() -> None:
    """Every slice has a dash of its own, and the bars a pattern."""
    drawn = figure(profile(), GEMM)
    lines = {
        one.line.color: one.line.dash
        for one in drawn.data
        if one.legendgroup and one.fill is None and one.x[0] is not None
    }
    assert len(lines) >= 4
    assert len(set(lines.values())) == len(lines)
    assert len({bar.marker.pattern.shape for bar in drawn.data if bar.type == "bar"}) == 2


def test_measured_slices_are_those_with_most_points() -> None:
    """Of 3 shapes with 5 points each and one with a single point, the 3 are drawn, and the one left out is told."""
    shapes = [(256, 256)] * 5 + [(1024, 256)] * 5 + [(4096, 1024)] * 5 + [(777, 777)]
    rows = [1, 4, 16, 64, 256] * 3 + [1]
    law: Any = gemm()
    asked = timing(profile(), GEMM)
    sizes = {
        "m": np.array(rows, float),
        "n": np.array([n for n, _ in shapes], float),
        "k": np.array([k for _, k in shapes], float),
    }
    law["measured"] = {
        "sizes": {name: values.tolist() for name, values in sizes.items()},
        "seconds": asked.predict(sizes).tolist(),
    }
    drawn = figure(profile(**{GEMM: law}), GEMM)
    points = traces(drawn, 1, "measured")
    assert [list(one.x) for one in points] == [[1, 4, 16, 64, 256]] * 3
    assert traces(drawn, 1, "n 1,024, k 256")
    assert any("15 of 16 points lie on these slices" in note.text for note in drawn.layout.annotations)


def test_a_page_has_a_section_for_every_law_and_its_text() -> None:
    """In the index, as a heading, as sentences above, and as charts that each have words and a table."""
    one = profile()
    text = page(one)
    for name in one.laws:
        assert re.search(rf"<h3>{re.escape(name)} <a", text)
        assert re.search(rf'<a href="#law(-\d)?">{re.escape(name)}</a>', text)
        assert all(sentence.replace("&", "&amp;") in text for sentence in summary(one, name))
    drawn = sum(bool(panel.traces) for name in one.laws for panel in panels(one, name))
    assert text.count('<figure id="') == text.count('class="summary"') == text.count(">The numbers ") == drawn > 6
    assert "two kernels &lt;and&gt; a crossing" in text
    assert "The measured points are not shipped with the profile." in text
    body = re.sub(r"<(script|style).*?</(script|style)>", "", text, flags=re.DOTALL)
    assert not re.search(r"\$|\b(nan|inf|None)\b", body)


def test_a_panel_that_draws_says_what_it_shows() -> None:
    """Every panel with traces has a sentence with a number, for those who do not see it."""
    one = profile()
    for name in one.laws:
        assert all(re.search(r"\d", panel.said) for panel in panels(one, name) if panel.traces)


def test_a_page_asks_nothing_of_a_network() -> None:
    """No address outside of what is packed, no upload button, and the browser is told to refuse requests."""
    text = page(profile(), [ENCODE])
    packed = re.search(r'id="page-plotly">(.*?)</script>', text)[1]  # type: ignore[index]
    rest = text.replace(packed, "")
    assert not re.search(r"https?://", rest)
    assert not re.search(r"""(src|href)=["'](?!#)""", rest)
    assert CONFIG["showSendToCloud"] is False
    assert "default-src 'none'" in rest
    assert len(packed) < 2_000_000


@pytest.mark.slow
@pytest.mark.parametrize("over", [True, False])
def test_every_operation_can_be_shown_compared_and_drawn(over: bool) -> None:
    """With ranges that start at 0 for contexts, and without any range."""
    laws: dict[str, Any] = {}
    for op in OPS.values():
        form = (
            {"roofline": BASE} if op.work else {"sum": {"overhead": "1 us", "terms": dict.fromkeys(op.sizes, "1 ns")}}
        )
        bounds = {size: "0 4096" if size == "context" else "1 4096" for size in op.sizes} if over else {}
        laws[op.name] = {"form": form, "over": bounds, "source": "here"}
    one = profile("all", **laws)
    view = difference(one, one)
    assert {row["median"] for row in view.data["laws"]} == {1.0}
    assert len(overview(one).data["laws"]) == len(one.laws)
    for name in one.laws:
        assert all(row["seconds"] > 0 for row in law_view(one, name).data["predictions"])
        assert np.isfinite([value for trace in figure(one, name).data for value in trace.y if value is not None]).all()

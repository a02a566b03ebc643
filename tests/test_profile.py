"""Profiles: operations, forms of laws, ranges, files, and what a bad one is told."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordsim.sim.engine.errors import ProfileError
from coordsim.sim.engine.source import Document
from coordsim.sim.profile import profile as profiles
from coordsim.sim.profile.forms import feature
from coordsim.sim.profile.ops import OPS, law_name, split_name
from coordsim.sim.profile.profile import Profile, merged, names, of, read

BAD = Path(__file__).parent / "data" / "bad_profiles"
CASES = sorted(path for path in BAD.iterdir() if path.suffix != ".txt")
SOURCE = {"title": "a test", "quality": "measured", "machine": "none", "date": "2026-11-23"}


def made(laws: dict[str, Any], name: str = "made") -> Profile:
    """Return a profile with these laws, all of one source."""
    given = {key: {"source": "own", **law} for key, law in laws.items()}
    return Profile.model_validate({"coordsim_profile": 1, "name": name, "sources": {"own": SOURCE}, "laws": given})


def seconds(law: str, form: dict[str, Any], **sizes: float) -> float:
    """Return what a law of this form says at sizes."""
    op, options = split_name(law)
    return made({law: {"form": form}}).timing(op, **options).seconds(sizes)


# --- forms ----------------------------------------------------------------------------------------------------------


def test_a_sum_adds_its_terms() -> None:
    """Overhead, bytes and their root: 10 us + 1000 · 1 ns + sqrt(1000) · 100 ns."""
    form = {"sum": {"overhead": "10 us", "terms": {"bytes": "1 ns", "bytes^0.5": "100 ns"}}}
    assert seconds("all_reduce[ranks=8,via=nvlink]", form, bytes=1000) == pytest.approx(
        10e-6 + 1000 * 1e-9 + math.sqrt(1000) * 100e-9, rel=1e-12
    )


def test_a_roofline_is_the_longer_of_arithmetic_and_traffic() -> None:
    """A product of one row is bound by memory, one of many rows by arithmetic; 2mnk operations, 2 bytes an element."""
    form = {"roofline": {"overhead": "1 us", "compute": "100 TFLOP/s", "memory": "1 TB/s"}}
    thin, wide = (seconds("gemm[dtype=bf16]", form, m=m, n=4096, k=4096) for m in (1, 4096))
    assert thin == pytest.approx(1e-6 + 2 * (4096 * 4096 + 4096 + 4096) / 1e12, rel=1e-12)
    assert wide == pytest.approx(1e-6 + 2 * 4096**3 / 100e12, rel=1e-12)


def test_sharpness_rounds_the_corner_from_above() -> None:
    """At the corner the p-norm is 2^(1/p) of either part; far from it, nothing."""
    base = {"compute": "1 TFLOP/s", "memory": "1 TB/s"}
    sharp = seconds("norm[dtype=fp32,kind=rms]", {"roofline": base}, tokens=1000, hidden=1000)
    rounded = seconds(
        "norm[dtype=fp32,kind=rms]", {"roofline": {**base, "sharpness": 2}}, tokens=1000, hidden=1000
    )  # 4 operations and 8 bytes a cell
    assert sharp == pytest.approx(8e6 / 1e12)
    assert rounded == pytest.approx(math.hypot(4e6 / 1e12, 8e6 / 1e12))


def grid(*tables: dict[str, Any]) -> dict[str, Any]:
    """Return a grid over a base of 1 ms."""
    return {"grid": {"base": {"sum": {"overhead": "1 ms"}}, "tables": list(tables)}}


def test_a_grid_interpolates_over_the_logarithm() -> None:
    """Half-way in log2 between two nodes the logarithm of the factor is their mean."""
    form = grid({"axes": {"bytes": [1, 4, 16]}, "nodes": [0.0, 1.0, 3.0]})
    for size, log in ((1, 0.0), (2, 0.5), (4, 1.0), (8, 2.0), (16, 3.0)):
        assert seconds("encode[codec=json]", form, bytes=size) == pytest.approx(1e-3 * math.exp(log))


def test_a_grid_stays_at_its_edge() -> None:
    """Beyond the axes the factor is that of the last node, also at size 0, so that only the base goes on."""
    form = grid({"axes": {"bytes": "1 4"}, "nodes": "0.5 1"})
    assert seconds("encode[codec=json]", form, bytes=0) == pytest.approx(1e-3 * math.exp(0.5))
    assert seconds("encode[codec=json]", form, bytes=1e9) == pytest.approx(1e-3 * math.exp(1))


def test_tables_of_a_grid_add_up_and_nodes_go_row_by_row() -> None:
    """Two axes, six nodes: the last axis runs fastest; a second table adds its own logarithm."""
    two = {"axes": {"m": "1 2", "n": "1 2 4"}, "nodes": "0 1 2 10 11 12"}
    one = {"axes": {"k": "1 2"}, "nodes": "0 100"}
    for m, n, log in ((1, 1, 0), (1, 4, 2), (2, 1, 10), (2, 2, 11)):
        got = seconds("gemm[dtype=bf16]", grid(two, one), m=m, n=n, k=1)
        assert math.log(got / 1e-3) == pytest.approx(log)
    assert math.log(seconds("gemm[dtype=bf16]", grid(two, one), m=1, n=1, k=2) / 1e-3) == pytest.approx(100)


def test_no_grid_is_faster_than_its_floor() -> None:
    """However small the factor, the bytes of the operation have to be moved."""
    law = grid({"axes": {"bytes": "1"}, "nodes": "-20"})
    law["grid"]["floor"] = "1 GB/s"
    assert seconds("copy.device", law, bytes=1e6) == pytest.approx(1e-3)


def test_arrays_and_numbers_give_the_same() -> None:
    """`predict` over arrays equals `seconds` one by one, for every form."""
    forms: list[dict[str, Any]] = [
        {"constant": "3 us"},
        {"sum": {"overhead": "1 us", "terms": {"m*k^2": "1 ns", "n*k^-1": "2 ns"}}},
        {"roofline": {"compute": "1 TFLOP/s", "memory": "1 TB/s", "work": "padded_flops", "sharpness": 3}},
        grid({"axes": {"m": "1 8 64", "tiles": "1 4"}, "nodes": "0 .1 .2 .3 .4 .5"}),
    ]
    rng = np.random.default_rng(7)
    sizes = {name: rng.integers(1, 300, 50).astype(float) for name in "mnk"}
    for form in forms:
        timing = made({"gemm[dtype=bf16]": {"form": form}}).timing("gemm", dtype="bf16")
        one_by_one = [timing.seconds({name: sizes[name][i] for name in sizes}) for i in range(50)]
        np.testing.assert_allclose(timing.predict(sizes), one_by_one, rtol=1e-12)


# --- ranges and residuals -------------------------------------------------------------------------------------------


def test_a_size_outside_of_the_range_is_flagged() -> None:
    """The sentence names the law, the size, the range and how far beyond it was asked; inside nothing is said."""
    law = {"form": {"sum": {"terms": {"bytes": "1 ns"}}}, "over": {"bytes": "100 1000"}}
    timing = made({"encode[codec=json]": law}).timing("encode", codec="json")
    assert timing.seconds({"bytes": 500}) == pytest.approx(500e-9)
    assert timing.flags() == []
    timing.seconds({"bytes": 10})
    assert timing.seconds({"bytes": 5000}) == pytest.approx(5e-6)
    (flag,) = timing.flags()
    assert flag == (
        "encode[codec=json] was asked beyond the bytes of 100 to 1000 it was fitted on: below it by up to 10 times, "
        "above it by up to 5 times"
    )


def test_repeats_are_drawn_and_shapes_are_not() -> None:
    """Only what differs from call to call is noise."""
    told = {"shares": "0 0.5 1", "ratios": "0.9 1 1.3"}
    laws = {
        f"encode[codec={of}]": {"form": {"constant": "1 us"}, "residual": {"of": of, **told}}
        for of in ("repeats", "shapes")
    }
    profile = made(laws)
    noise = profile.timing("encode", codec="repeats").noise
    assert noise is not None
    assert float(noise.quantile(0.5)) == pytest.approx(1.0)
    assert profile.timing("encode", codec="shapes").noise is None


# --- names ----------------------------------------------------------------------------------------------------------


def test_the_name_of_a_law_is_its_operation_and_options() -> None:
    """Options stand in order of their names, and the name gives them back."""
    name = law_name("cross", {"via": "tcp", "load": "busy"})
    assert name == "cross[load=busy,via=tcp]"
    assert split_name(name) == ("cross", {"load": "busy", "via": "tcp"})
    assert split_name("launch") == ("launch", {})


def test_every_operation_works_out_its_features() -> None:
    """Work and tiles of each operation are finite and >= 0 at sizes of 1 to 64, for numbers and for arrays."""
    for op in OPS.values():
        ones = {size: 2.0 ** (2 + place) for place, size in enumerate(op.sizes)}
        work = ("flops", "bytes_moved") if op.work is not None else ()
        for one in [feature(name, op, {}) for name in (*op.sizes, *op.derived, *work)]:
            value = float(one(ones))
            many = one({size: np.full(3, number) for size, number in ones.items()})
            assert math.isfinite(value)
            assert value >= 0
            np.testing.assert_allclose(many, value)


# --- files ----------------------------------------------------------------------------------------------------------


def example() -> Profile:
    """Return a profile of two laws."""
    return made(
        {
            "gemm[dtype=bf16]": {
                "form": grid({"axes": {"m": "1 2"}, "nodes": "0.25 -0.125"}),
                "over": {"m": "1 2"},
                "held_out": [{"split": "points", "points": 9, "median": 0.03, "p95": 0.1}],
                "interval": "0.98 1.01",
            },
            "encode[codec=json]": {"form": {"sum": {"overhead": "3.3333 us"}}},
        }
    )


@pytest.mark.parametrize("ending", ["yaml", "json"])
def test_a_profile_is_read_back_as_it_was_written(tmp_path: Path, ending: str) -> None:
    """Both formats hold every value exactly."""
    path = tmp_path / f"own.{ending}"
    path.write_text(getattr(example(), f"to_{ending}")(), encoding="utf-8")
    assert read(str(path)) == example()


def test_every_profile_that_ships_can_be_read() -> None:
    """They have their file's name, a source with a licence or a machine for each law, and a stated error."""
    for name in names():
        profile = read(name)
        assert profile.name == name
        assert profile.laws
        for law in profile.laws.values():
            source = profile.source_of(law)
            assert source.title
            assert source.machine
            assert source.date


def test_of_two_profiles_the_earlier_law_holds() -> None:
    """Each law keeps its own source, also where both profiles call theirs the same."""
    first = made({"spawn[what=true]": {"form": {"constant": "1 us"}}}, "first")
    laws = {"spawn[what=true]": {"form": {"constant": "2 us"}}, "spawn[what=python]": {"form": {"constant": "3 us"}}}
    second = made(laws, "second")
    both = merged([first, second])
    assert both.name == "first-second"
    assert both.timing("spawn", what="true").seconds({}) == pytest.approx(1e-6)
    assert both.timing("spawn", what="python").seconds({}) == pytest.approx(3e-6)
    assert both.source_of(both.laws["spawn[what=python]"]).title == "a test"
    assert Profile.model_validate(both.to_data()) == both


def test_the_kernels_of_one_device_do_not_fill_the_gaps_of_another() -> None:
    """Laws of a device come from the first profile that has any; those of the host from all."""
    one = {"form": {"constant": "1 us"}}
    gpu = made({"gemm[dtype=bf16]": one}, "gpu")
    cpu = made({"kv.append": one, "gemm[dtype=fp32]": one, "encode[codec=json]": one}, "cpu")
    assert set(merged([gpu, cpu]).laws) == {"gemm[dtype=bf16]", "encode[codec=json]"}
    assert set(merged([cpu, gpu]).laws) == set(cpu.laws)


def test_an_older_version_is_brought_up_to_date(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each step of a migration takes a version to the next, until the current one."""

    def renamed(data: dict[str, Any]) -> dict[str, Any]:
        return {**data, "laws": data["timings"], "timings": None}

    monkeypatch.setattr(profiles, "_MIGRATIONS", {0: renamed})
    old = json.loads(example().to_json())
    old |= {"coordsim_profile": 0, "timings": old.pop("laws")}
    data = profiles.migrated(old)
    data.pop("timings")
    assert of(Document.from_data(data, "old", ProfileError)) == example()


def test_a_law_that_is_not_there_is_told_with_those_that_are() -> None:
    """The error names the profile, what was asked and what there is of that operation."""
    with pytest.raises(ProfileError) as caught:
        example().timing("gemm", dtype="fp8")
    assert str(caught.value).splitlines()[1].strip() == "has no law `gemm[dtype=fp8]`; it has `gemm[dtype=bf16]`"


@pytest.mark.parametrize("case", CASES, ids=lambda path: path.name)
def test_a_bad_profile_gives_its_message(case: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where, what, the rule, what was got and the remedy, to the letter."""
    monkeypatch.chdir(BAD)
    with pytest.raises(ProfileError) as caught:
        read(case.name)
    assert str(caught.value) == case.with_suffix(".txt").read_text(encoding="utf-8").removesuffix("\n")

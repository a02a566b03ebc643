"""Answers are read back as they were written: every number, nan, infinities and arrays; and what cannot be read says what to do."""

import json
import math
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from typing import get_type_hints as hints

import numpy as np
import pytest

import coordsim as cs
from coordsim.models import fault_study as fault_models
from coordsim.models import scaling as scaling_models
from coordsim.models.trace_digest import digest_of
from coordsim.models.variants import simulate_text
from coordsim.sim.analysis import fault_study, scaling
from coordsim.sim.analysis.replicate import Settings
from coordsim.sim.analysis.slo import Objective
from coordsim.sim.analysis.statistics import Estimate
from coordsim.sim.report.codec import DamagedError, decode, encode
from coordsim.sim.report.page.provenance import Input, Line, Provenance
from coordsim.sim.report.stored import KINDS, NAME, VERSION, StoredError, dump, kind_of, parse, read, type_of

from . import held_out, verdicts_made
from .measured import measured

TEXT = """
coordsim: 1
name: desk
seed: 3
runtime: stateless-api
workload: {arrivals: {poisson: 2 / s}, tasks: 60, warmup: 0 s}
models: {llm: {kind: llm, replicas: 1, concurrency: 1, prefill: 0 s / token, decode: 10 ms / token}}
agents: {clerk: {model: llm, prompt: 10 tokens, output: 10 tokens}}
workflow: {start: work, steps: {work: {agent: clerk, repeat: 2, next: done}}}
slo: {p95: 1 s}
replications: 2
"""
SOURCE = Provenance(
    "desk", "Why?", "ab12", 3, "coordsim run desk", {"coordsim": "0.1.0"}, (Line("seed: 3", True, "desk.yaml:4"),),
    (Input("values", "assumed", "stated"),), ("trace.csv",), "ideal", None, (("p95", 1.0, "<="),),
)  # fmt: skip
FAULT = {"on": "models.llm", "slow": 3, "at": "10 s", "for": "4 s"}
ALLOWED = (int, float, str, bool, type(None), Any, np.float64, Ellipsis)


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal through and through: of the same types, nan like nan, arrays element by element."""
    if is_dataclass(one) and not isinstance(one, type):
        names = [field.name for field in fields(one)]
        return type(one) is type(other) and all(same(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, np.ndarray):
        return isinstance(other, np.ndarray) and one.dtype == other.dtype and np.array_equal(one, other, equal_nan=True)
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, float) and math.isnan(one):
        return isinstance(other, float) and math.isnan(other)
    return bool(one == other)


def made(kind: str) -> object:
    """Return a small result of a kind."""
    scenario = cs.Scenario.from_text(TEXT)
    if kind == "run":
        return cs.simulate(scenario)._found()
    if kind == "plan":
        return cs.plan(scenario.replace("plan", {"decide": {"models.llm.replicas": {"from": 1, "to": 3}}})).result
    if kind == "study":
        return cs.sweep(scenario, over={"models.llm.replicas": [1, 2]}).result
    if kind == "compare":
        return cs.compare(scenario, "stateless-api", "agent-native").result
    if kind == "sensitivity":
        return cs.sensitivity(scenario).result
    if kind == "trace":
        return digest_of(measured(12, failed=1))
    if kind == "holdout":
        return held_out.result()
    if kind == "validation":
        return verdicts_made.passed()
    settings = Settings(replications=2, warmup=0.0)
    if kind == "scaling":
        plan = scaling_models.make_plan(scenario, ["steps=1,2,4"])
        return scaling.run_plan(simulate_text, plan, seed=3, settings=settings)
    faults = fault_models.make_plan(
        scenario.replace("faults", {"outage": FAULT}), fault_models.StudyOptions(rise="load")
    )
    return fault_study.run_plan(simulate_text, faults, seed=3, settings=settings)


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_equals_what_was_written(kind: str, tmp_path: Path) -> None:
    """Every kind of answer: equal objects, the same bytes again, and no JSON that only Python reads."""
    found = made(kind)
    text = dump(kind, found, SOURCE)
    json.loads(text, parse_constant=pytest.fail)
    (tmp_path / NAME).write_text(text, encoding="utf-8")
    stored = read(tmp_path)
    assert kind_of(found) == stored.kind == kind
    assert stored.source == SOURCE
    assert same(found, stored.found)
    assert dump(kind, stored.found, stored.source) == text


@pytest.mark.parametrize("kind", KINDS)
def test_every_type_of_a_result_can_be_read(kind: str) -> None:
    """No field of any result, however deep, is of a type that the codec has no rule for."""
    seen: set[Any] = set()

    def walk(hint: Any) -> None:
        known = get_origin(hint) or hint
        if is_dataclass(known) and known not in seen:
            seen.add(known)
            for one in fields(known):
                walk(hints(known)[one.name])
        elif known is not Literal:
            leaf = not get_args(hint)
            assert not leaf or is_dataclass(known) or hint in ALLOWED, hint
            for one in get_args(hint):
                walk(one)

    walk(type_of(kind))
    assert len(seen) >= 3


@dataclass(frozen=True)
class Odd:
    """What a result may hold, and JSON does not."""

    numbers: tuple[float, ...]
    array: np.ndarray[Any, np.dtype[np.float64]]
    by: dict[str, Estimate | None]
    either: int | float | str | bool | None
    later: str = "default"


def test_what_json_cannot_say_is_kept() -> None:
    """Not-a-number and infinities, arrays with their type and shape, keys that are like tags, and numbers to the last digit."""
    odd = Odd(
        (math.nan, math.inf, -math.inf, 0.1 + 0.2, 5e-324, -0.0),
        np.array([[1.0, math.nan], [math.inf, 2.0]]),
        {"~": Estimate(1.0, -math.inf, math.nan, 0.95, 3, "t"), "none": None},
        "nan",
    )
    found = decode(Odd, json.loads(json.dumps(encode(odd), allow_nan=False)))
    assert same(odd, found)
    assert math.copysign(1, found.numbers[-1]) == -1
    assert encode(np.float64(0.5)) == 0.5
    for value in (1, 1.0, True, None):
        again = decode(Odd, json.loads(json.dumps(encode(Odd((), np.zeros(0), {}, value)))))
        assert type(again.either) is type(value)
    with pytest.raises(TypeError, match="cannot be written: object"):
        encode(object())


def test_what_is_damaged_says_where() -> None:
    """The field that is missing, unknown or of another type is named, with the remedy; a field with a default may be missing."""
    data = encode(Odd((1.0,), np.zeros(2), {}, 1))
    assert decode(Odd, {name: one for name, one in data.items() if name != "later"}).later == "default"
    wrong: tuple[tuple[dict[str, Any], str], ...] = (
        ({"numbers": 1}, "`.numbers` must be a list; got 1"),
        ({"numbers": ["x"]}, r"`.numbers\[0\]` must be a float; got 'x'"),
        ({"new": 1}, "`.new` is not known"),
        ({"by": {"a": [1, 2]}}, "`.by.a.high` is missing"),
        ({"numbers": [{"~": "what"}]}, "unknown tag `what`"),
    )
    for change, message in wrong:
        with pytest.raises(DamagedError, match=message):
            decode(Odd, data | change)
    with pytest.raises(DamagedError, match=r"`\.numbers` is missing"):
        decode(Odd, {})


@pytest.mark.parametrize(
    ("hint", "data", "message"),
    [
        (Any, {"~": "map"}, "`x` must be a mapping with `items`"),
        (Any, {"~": "map", "items": 3}, "`x` must be a mapping with `items`"),
        (Any, {"~": "map", "items": [[1]]}, r"must be a key with its value; got \[1\]"),
        (Any, {"~": "map", "items": [[{"a": 1}, 2]]}, "must be a text or a number"),
        (Any, {"~": "array", "dtype": "nope", "values": [1]}, "must be a dtype of numbers or of texts; got 'nope'"),
        (Any, {"~": "array", "dtype": "object", "values": [1]}, "must be a dtype of numbers"),
        (Any, {"~": "array", "dtype": 8, "values": [1]}, "must be a dtype of numbers"),
        (Any, {"~": "array", "dtype": "float64"}, "must be a mapping with `dtype` and `values`"),
        (Any, {"~": "array", "dtype": "float64", "values": 1}, "must be a list of numbers"),
        (Any, {"~": "array", "dtype": "float64", "values": [None]}, "must be a float; got None"),
        (Any, {"~": "array", "dtype": "int64", "values": [1.5]}, "must be a int; got 1.5"),
        (Any, {"~": "array", "dtype": "int8", "values": [1000]}, "is no array of int8"),
        (Any, {"~": "array", "dtype": "float64", "values": [[1], [1, 2]]}, "is no array of float64"),
        (float, {"~": "array", "dtype": "float64", "values": [1]}, "must be a float"),
        (np.ndarray[Any, np.dtype[np.float64]], [1.0], "must be a mapping with `dtype`"),
        (Any, {"~": [1]}, r"the unknown tag `\[1\]`"),
        (Any, {"~": None}, "the unknown tag `None`"),
        (Any, {"~": "nan", "more": 1}, "must be a number"),
        (Objective, {"metric": "p95", "threshold": {"~": "inf"}, "sense": "<="}, "`x` cannot be: .* must be finite"),
        (Objective, {"metric": "p95", "threshold": 10**400, "sense": "<="}, "`x` cannot be: "),
        (Estimate, [1.0, 1.0, 1.0, 0.95, 3, "t", 9], "`x` must be a list of 6; got 7"),
        (Estimate, [1.0, 1.0, 1.0, 0.95, 3], r"`x\.method` is missing"),
    ],
)  # fmt: skip
def test_no_damage_is_another_error(hint: Any, data: Any, message: str) -> None:
    """Tags, arrays, objects and estimates that cannot be say so with their place, and are never read as something else."""
    with pytest.raises(DamagedError, match=message):
        decode(hint, data, "x")


def test_what_has_no_type_is_read_too() -> None:
    """Not-a-number, arrays and mappings within lists and mappings of any types, and mappings with a key like a tag where nothing may stand."""
    value = {"a": [1, {"b": math.nan}, [math.inf, np.array([1, 2])]], "c": {1: [-math.inf], "~": (math.nan,)}}
    found = decode(Any, json.loads(json.dumps(encode(value), allow_nan=False)))
    assert same(found, {"a": value["a"], "c": {1: [-math.inf], "~": [math.nan]}})
    assert decode(dict[str, float] | None, encode({"~": 1.0})) == {"~": 1.0}


def test_what_is_nested_without_end_is_damaged() -> None:
    """Deeper than Python reads: the same error."""
    data = json.loads(dump("run", made("run"), SOURCE))
    text = json.dumps(data | {"result": {"~": "array", "dtype": "float64", "values": "DEEP"}})
    for depth in (100, 990, 100_000):
        with pytest.raises(StoredError, match="is damaged"):
            parse(text.replace('"DEEP"', "[" * depth + "]" * depth), "it")


def test_what_cannot_be_read_says_what_to_do(tmp_path: Path) -> None:
    """No folder, one of an older coordsim or of an answer that is not complete, another file, damaged, newer, another kind."""
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "study.json").write_text("{}")
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "journal.jsonl").write_text("")
    (tmp_path / "empty").mkdir()
    for place, message in (
        ("absent", "absent is not there; name a folder"),
        ("old", "run it again with `coordsim sweep ... -o .*old --overwrite`"),
        ("begun", "is not complete; go on with its command and `--resume`"),
        ("empty", f"holds no {NAME}"),
    ):
        with pytest.raises(StoredError, match=message):
            read(tmp_path / place)
    text = dump("run", made("run"), SOURCE)
    data = json.loads(text)
    for changed, message in (
        (text[:1000], "is damaged: .*; run its command again"),
        ("[1]", "is no answer of coordsim"),
        (
            json.dumps(data | {"coordsim_result": VERSION + 1, "coordsim": "9.9"}),
            "reads up to 1; coordsim 9.9 wrote it; install a newer",
        ),
        (json.dumps(data | {"coordsim_result": "1"}), "must be 1"),
        (json.dumps(data | {"kind": "plans"}), "holds a plans; .*did you mean `plan`"),
        (
            json.dumps(data | {"kind": "plan"}),
            "was written by another version of coordsim .*: `result.summary` is not known; write it again with `coordsim run desk -o DIR`",
        ),
        (json.dumps(data | {"result": None, "coordsim": "0.0.1"}), r"is damaged \(coordsim 0.0.1 wrote it"),
        (
            json.dumps(data | {"result": {"summary": data["result"]["summary"]}}),
            r"another version of coordsim \(coordsim 0\.1\.0; this is coordsim .*\): `result\.\w+` is missing; write it again with `coordsim run desk",
        ),
        (
            json.dumps(
                data
                | {"source": {"versions": {"coordsim": "0.0.9", "numpy": "2.0"}, "command": "coordsim.simulate(x)"}}
            ),
            r"\(coordsim 0\.0\.9, numpy 2\.0; this is .*`source.scenario` is missing; write it again with `coordsim.simulate\(x\)`",
        ),
    ):
        with pytest.raises(StoredError, match=message):
            parse(changed, "it")


def test_only_results_have_a_kind() -> None:
    """Anything else is a mistake of the caller."""
    with pytest.raises(TypeError, match="must be a result of an analysis; got str"):
        kind_of("a text")

"""Specs: the types of fields, one-of mappings, and how every mistake is told."""

import enum
import json
import re
from typing import Annotated, Any, Generic, Literal, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError, model_validator

from coordsim.sim.engine.errors import ProfileError, ScenarioError
from coordsim.sim.engine.schema import json_schema
from coordsim.sim.engine.source import Document
from coordsim.sim.engine.spec import (
    Bandwidth,
    Count,
    Duration,
    Factor,
    Money,
    MoneyPerToken,
    Name,
    OneOf,
    PositiveCount,
    PositiveDuration,
    Rate,
    Share,
    Size,
    Spec,
    SpecProblem,
    SpecProblems,
    TokenRate,
    Tokens,
    Whole,
    validate,
)

Q = TypeVar("Q")


class Lognormal(Spec, Generic[Q]):
    """A spec with a generic quantity."""

    median: Q
    p95: Q


class Draw(OneOf, Generic[Q]):
    """A one-of mapping, as distributions are."""

    constant: Q | None = None
    lognormal: Lognormal[Q] | None = None
    mixture: "tuple[Draw[Q], ...] | None" = None
    from_: Q | None = Field(None, alias="from")

    @classmethod
    def from_scalar(cls, value: object) -> dict[str, Any] | None:
        """Let `350 ms` mean `{constant: 350 ms}`."""
        return {"constant": value}


class Arrivals(OneOf):
    """A one-of mapping that no bare value stands for."""

    poisson: Rate | None = None
    closed: PositiveCount | None = None


class Llm(Spec):
    """One kind of model."""

    kind: Literal["llm"]
    replicas: PositiveCount = 1
    speed: Factor = 1.0


class Api(Spec):
    """Another kind of model."""

    kind: Literal["api"]
    price: MoneyPerToken


class Runtime(Spec):
    """A mapping for which a bare name may stand."""

    preset: Name
    polling: Duration | None = None


class Level(enum.Enum):
    """A choice of texts."""

    LOW = "low"
    HIGH = "high"


class Step(Spec):
    """A spec that checks its fields against one another."""

    low: int = 0
    high: int = 10

    @model_validator(mode="after")
    def _in_order(self) -> "Step":
        if self.high < self.low:
            raise SpecProblem("high", f"must be >= low; got low={self.low}, high={self.high}")
        if self.low < 0 and self.high < 0:
            raise SpecProblems([SpecProblem("low", "must be >= 0"), SpecProblem(("high",), "must be >= 0")])
        if self.low == 7:
            raise SpecProblem("", "7 is unlucky")
        return self


class Everything(Spec):
    """Every kind of field."""

    name: Name
    latency: Draw[Duration] = Draw[Duration](constant="0 s")
    arrivals: Arrivals | None = None
    models: dict[Name, Annotated[Llm | Api, Field(discriminator="kind")]] = Field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    pairs: tuple[tuple[Name, Share], ...] = ()
    runtime: Name | Runtime = "ideal"
    tagged: Llm | Api | None = None
    level: Level = Level.LOW
    codec: Literal["json", "protobuf"] = "json"
    flag: bool = False
    number: float = 0.0
    whole: int = Field(3, ge=1, le=9)
    text: str = ""
    few: list[str] = Field(default_factory=list, max_length=2)
    tokens: Tokens = 0
    size: Size = 0
    bandwidth: Bandwidth | None = None
    limit: TokenRate | None = None
    cost: Money = 0
    timeout: PositiveDuration | None = None
    count: Count = 0
    some: Annotated[int, Whole(2, 5)] = 2


def report(text: str) -> list[str]:
    """Return the lines of the report about a bad text, positions and source lines left out."""
    with pytest.raises(ScenarioError) as caught:
        validate(Everything, Document.from_text(text, "s.yaml"))
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


# --- values ---------------------------------------------------------------------------------------------------------

GOOD = """\
name: x
latency: 350 ms
arrivals: {poisson: 0.5 / s}
models:
  llm: {kind: llm, replicas: 2k, speed: 1.5}
  api: {kind: api, price: $3 / 1M tokens}
steps: [{low: 1, high: 2}, {}]
pairs: [[a, 30 %], [b, 0.7]]
runtime: {preset: ideal, polling: 5 ms}
tagged: {kind: api, price: $1 / token}
level: high
codec: protobuf
flag: true
number: 3
text: hello
few: [a]
tokens: 1.5k tokens
size: 40 kB
bandwidth: 10 Gbit/s
limit: 30k tokens / min
cost: $0.02
timeout: 1 min
count: 1e3
some: 5
"""


def test_values_are_held_in_base_units() -> None:
    """YAML carries the units, the program seconds, bytes and tokens."""
    spec = validate(Everything, Document.from_text(GOOD))
    assert spec.latency.chosen == ("constant", 0.35)
    assert spec.arrivals is not None
    assert spec.arrivals.chosen == ("poisson", 0.5)
    assert spec.models == {
        "llm": Llm(kind="llm", replicas=2000, speed=1.5),
        "api": Api(kind="api", price="$3 / 1M tokens"),
    }
    assert spec.pairs == (("a", 0.3), ("b", 0.7))
    assert spec.runtime == Runtime(preset="ideal", polling="5 ms")
    assert (spec.tokens, spec.size, spec.bandwidth, spec.limit) == (1500, 40e3, 1.25e9, 500)
    assert (spec.cost, spec.timeout, spec.count, spec.level) == (0.02, 60, 1000, Level.HIGH)
    assert isinstance(spec.count, int)


def test_a_spec_that_was_written_out_is_read_back_equal() -> None:
    """With units, aliases and the chosen kinds; as Python data and as JSON."""
    spec = validate(Everything, Document.from_text(GOOD.replace("350 ms", "{mixture: [{from: 1 s}, 2 s]}")))
    data = spec.to_data()
    assert data["latency"] == {"mixture": [{"from": "1 s"}, {"constant": "2 s"}]}
    assert data["models"]["api"]["price"] == "$3 / 1M tokens"
    assert validate(Everything, Document.from_data(data)) == spec
    assert validate(Everything, Document.from_data(json.loads(json.dumps(data)))) == spec
    assert Everything.model_validate(spec.model_dump(by_alias=True)) == spec


@given(value=st.floats(0, 1e9))
def test_every_duration_is_written_and_read_back_to_the_bit(value: float) -> None:
    """A resolved scenario reproduces its run."""
    spec = Runtime.model_construct(preset="x", polling=value)
    assert Runtime.model_validate(spec.to_data()).polling == value


def test_a_spec_is_frozen_and_takes_no_further_field() -> None:
    """A change makes a copy."""
    spec = Runtime(preset="x")
    with pytest.raises(ValidationError, match="frozen"):
        spec.preset = "y"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        Runtime(preset="x", poling="1 s")  # type: ignore[call-arg]


# --- mistakes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("latency: 250", "latency: must carry a unit, such as `250 ms`; got 250"),
        ("latency: {constant: -1 s}", "latency.constant: must be a duration >= 0, such as `250 ms`; got -1 s"),
        ("latency: {lognorml: {median: 1 s}}",
         "latency.lognorml: no such choice among `constant`, `lognormal`, `mixture`, `from`; did you mean `lognormal`?"),
        ("latency: {}", "latency: must have exactly one of `constant`, `lognormal`, `mixture`, `from`; got an empty mapping"),
        ("latency: {constant: 1 s, from: 2 s}",
         "latency: must have exactly one of `constant`, `lognormal`, `mixture`, `from`; got `constant`, `from`"),
        ("latency: {constant: }", "latency.constant: needs a value; got nothing"),
        ("latency: [1 s]", "latency: must be a mapping with one of `constant`, `lognormal`, `mixture`, `from`; got a list"),
        ("latency: {lognormal: {median: 1 s}}", "latency.lognormal.p95: required field is missing"),
        ("latency: {mixture: [1 s, {mixture: [5]}]}",
         "latency.mixture.1.mixture.0: must carry a unit, such as `250 ms`; got 5"),
        ("latency: {form: 1 s}",
         "latency.form: no such choice among `constant`, `lognormal`, `mixture`, `from`; did you mean `from`?"),
        ("arrivals: 0.5 / s", "arrivals: must be a mapping with one of `poisson`, `closed`; got 0.5 / s"),
        ("arrivals: {poisson: 0 / s}", "arrivals.poisson: must be a rate > 0, such as `0.5 / s`; got 0 / s"),
        ("models: {m: {kind: lm}}", "models.m.kind: must be one of `llm`, `api`; got 'lm'; did you mean `llm`?"),
        ("models: {m: {replicas: 1}}", "models.m.kind: required field is missing: one of `llm`, `api`"),
        ("models: {llm: {kind: llm, repicas: 1}}", "models.llm.repicas: no such field; did you mean `replicas`?"),
        ("models: {llm: {kind: llm, llm: 1}}",
         "models.llm.llm: no such field; the fields here are `kind`, `replicas`, `speed`"),
        ("models: {m: {kind: llm, replicas: 0}}", "models.m.replicas: must be a whole number >= 1; got 0"),
        ("models: {m: {kind: llm, replicas: 1.5}}", "models.m.replicas: must be a whole number >= 1; got 1.5"),
        ("models: {m: {kind: llm, replicas: many}}", "models.m.replicas: must be a whole number >= 1; got 'many'"),
        ("models: {m: {kind: llm, replicas: 1e15}}",
         "models.m.replicas: must be a whole number <= 1000000000000; got 1000000000000000.0"),
        ("models: {m: {kind: llm, speed: 0}}", "models.m.speed: must be a number > 0, such as `1.5`; got 0"),
        ("models: {m: {kind: api}}", "models.m.price: required field is missing"),
        ("models: {1m: {kind: llm}}",
         "models.1m: must be a name: a letter, then letters, digits, `_`, `.` or `-`, 100 at most; got 1m"),
        ("models: []", "models: must be a mapping; got an empty list"),
        ("steps: {}", "steps: must be a list; got an empty mapping"),
        ("steps: [{}, 5]", "steps.1: must be a mapping with fields such as `low`, `high`; got 5"),
        ("steps: [{low: 5, high: 2}]", "steps.0.high: must be >= low; got low=5, high=2"),
        ("steps: [{low: 7}]", "steps.0: 7 is unlucky"),
        ("steps: [{low: x}]", "steps.0.low: must be a whole number; got 'x'"),
        ("steps: [{low: true}]", "steps.0.low: must be a whole number; got true"),
        ("pairs: [[a]]", "pairs.0.1: required field is missing"),
        ("pairs: [[a, 120 %]]", "pairs.0.1: must be a share from 0 to 1, such as `80 %`; got 120 %"),
        ("runtime: {preset: a, poling: 5 ms}", "runtime.poling: no such field; did you mean `polling`?"),
        ("runtime: {preset: a, polling: 5}", "runtime.polling: must carry a unit, such as `250 ms`; got 5"),
        ("runtime: 5", "runtime: must be a name: a letter, then letters, digits, `_`, `.` or `-`, 100 at most; got 5"),
        ("tagged: {kind: llm, repicas: 1}", "tagged.repicas: no such field; did you mean `replicas`?"),
        ("tagged: {kind: api}", "tagged.price: required field is missing"),
        ("level: hihg", "level: must be one of `low`, `high`; got 'hihg'; did you mean `high`?"),
        ("codec: jsn", "codec: must be one of `json`, `protobuf`; got 'jsn'; did you mean `json`?"),
        ("codec: 5", "codec: must be one of `json`, `protobuf`; got 5"),
        ("flag: yes", "flag: must be true or false; got 'yes'; write `true`"),
        ("flag: 1", "flag: must be true or false; got 1"),
        ("number: '5'", "number: must be a number; got 5"),
        ("whole: 0", "whole: must be >= 1; got 0"),
        ("whole: 10", "whole: must be <= 9; got 10"),
        ("whole: 2.0", "whole: must be a whole number; got 2.0"),
        ("text: 5", "text: must be text; got 5; put it in quotes"),
        ("few: [a, b, c]", "few: must have at most 2 items; got 3"),
        ("few: [a, 5]", "few.1: must be text; got 5; put it in quotes"),
        ("count: -1", "count: must be a whole number >= 0; got -1"),
        ("count: true", "count: must be a whole number >= 0; got true"),
        ("count: ", "count: must be a whole number >= 0; got nothing"),
        ("some: 6", "some: must be a whole number <= 5; got 6"),
        ("timeout: 0 s", "timeout: must be a duration > 0, such as `250 ms`; got 0 s"),
        ("bandwidth: 10 Gbps",
         "bandwidth: must be a bandwidth, such as `10 Gbit/s`; got 10 Gbps: no such unit `Gbps`; did you mean `Gbit/s`?"),
        ("naem: y", "naem: no such field; did you mean `name`?"),
    ],
)  # fmt: skip
def test_a_mistake_names_path_rule_value_and_remedy(field: str, message: str) -> None:
    """One mistake in the text is one line in the report, at its path in the YAML, in our words."""
    assert report(f"name: x\n{field}\n") == [message]


def test_a_union_of_shapes_names_all_that_would_do() -> None:
    """Where a name or a mapping may stand, a list is neither."""
    (line,) = report("name: x\nruntime: [a]\n")
    assert line.startswith("runtime: must be a name: ")
    assert line.endswith(", or a mapping with fields such as `preset`, `polling`; got a list")


def test_several_problems_of_one_validator_are_told_apart() -> None:
    """Each has its own path."""
    assert report("name: x\nsteps: [{low: -2, high: -1}]\n") == [
        "steps.0.low: must be >= 0",
        "steps.0.high: must be >= 0",
    ]


def test_all_mistakes_come_at_once_with_their_lines() -> None:
    """In the order of the file, and each with the line that holds it; what is missing is cited at its parent."""
    text = "flag: maybe\nmodels:\n  m:\n    kind: api\n  n: {kind: llm, replicas: -1}\ntimeout: 3\n"
    with pytest.raises(ScenarioError) as caught:
        validate(Everything, Document.from_text(text, "s.yaml"))
    assert str(caught.value) == (
        "s.yaml has 5 mistakes\n"
        "        name: required field is missing\n"
        "  1:7   flag: must be true or false; got 'maybe'\n"
        "        | flag: maybe\n"
        "  3:3   models.m.price: required field is missing\n"
        "        | m:\n"
        "  5:28  models.n.replicas: must be a whole number >= 1; got -1\n"
        "        | n: {kind: llm, replicas: -1}\n"
        "  6:10  timeout: must carry a unit, such as `250 ms`; got 3\n"
        "        | timeout: 3"
    )


def test_what_an_alias_repeats_is_told_once() -> None:
    """One place, one mistake, however many aliases lead there."""
    assert report("name: x\nmodels:\n  a: &a {kind: llm, replicas: 0}\n  b: *a\n") == [
        "models.a.replicas: must be a whole number >= 1; got 0"
    ]


def test_a_mistake_in_plain_data_is_told_for_each_path() -> None:
    """Without lines, the paths tell mistakes apart."""
    with pytest.raises(ScenarioError) as caught:
        validate(Everything, Document.from_data({"name": "x", "timeout": 3, "latency": 3}, "mine"))
    assert str(caught.value) == (
        "mine has 2 mistakes\n"
        "  latency: must carry a unit, such as `250 ms`; got 3\n"
        "  timeout: must carry a unit, such as `250 ms`; got 3"
    )


def test_the_caller_chooses_the_error() -> None:
    """A profile with a mistake is a profile's error."""
    with pytest.raises(ProfileError):
        validate(Everything, Document.from_text("nmae: x"), error=ProfileError)


SCALARS = ["x", "5", "-1 s", "0.5", "true", "null", "[]", "{}", "[1]", "{kind: llm}", "{a: 1}", "{kind: api, price: 5}"]


@given(st.dictionaries(st.sampled_from([*Everything.model_fields, "x"]), st.sampled_from(SCALARS), min_size=1))
def test_no_mistake_is_told_in_pydantics_words(fields: dict[str, str]) -> None:
    """Whatever stands where, the report speaks of the YAML and not of the program."""
    text = "".join(f"{name}: {value}\n" for name, value in fields.items())
    try:
        validate(Everything, Document.from_text(text, "s.yaml"))
    except ScenarioError as error:
        told = str(error)
        for word in ("pydantic", "Input", "input", "Value error", "validat", "function-", "NoneType", "dict", "tuple"):
            assert word not in told
        steps = {step for problem in error.problems for step in problem.path.split(".")}
        assert steps <= {*fields, "name", "0", "1", "a", "kind", "price", "preset", "replicas", "polling"}


# --- one-of and schema ----------------------------------------------------------------------------------------------


def test_a_one_of_mapping_can_be_built_in_python() -> None:
    """As keywords, and as an instance inside another spec."""
    draw = Draw[Duration](constant="350 ms")
    assert draw.chosen == ("constant", 0.35)
    assert Everything(name="x", latency=draw).latency == draw
    assert Draw[Duration].choices() == ["constant", "lognormal", "mixture", "from"]
    with pytest.raises(ValidationError, match="exactly one of"):
        Draw[Duration]()


def test_the_schema_says_what_an_editor_needs() -> None:
    """Definitions have readable names; a one-of mapping has one key or a bare value; units have patterns."""
    schema = json_schema(Everything)
    draw = schema["$defs"]["Draw_Duration"]
    scalar, mapping = draw["anyOf"]
    assert re.search(scalar["pattern"], "350 ms")
    assert mapping["oneOf"] == [{"required": [name]} for name in ("constant", "lognormal", "mixture", "from")]
    assert mapping["additionalProperties"] is False
    assert mapping["properties"]["mixture"]["items"] == {"$ref": "#/$defs/Draw_Duration"}
    assert schema["$defs"]["Arrivals"]["oneOf"] == [{"required": ["poisson"]}, {"required": ["closed"]}]
    assert schema["properties"]["name"]["pattern"] == "^[A-Za-z][A-Za-z0-9_.-]*$"
    references = re.findall(r'"#/\$defs/([^"]+)"', json.dumps(schema))
    assert set(references) <= set(schema["$defs"])

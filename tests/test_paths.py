"""Paths into a scenario, which `--set`, factors and reports speak."""

import copy
from typing import Any

import pytest

from coordsim.sim.engine import paths
from coordsim.sim.engine.errors import ScenarioError

DATA: dict[str, Any] = {
    "models": {"llm": {"replicas": 2, "speed": 1.0}, "llama-3.1": {"replicas": 1}},
    "links": [{"latency": "1 ms", "between": ["a", "b"]}, {"latency": "2 ms"}],
    "name": "x",
    "empty": {},
}


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("models.llm.replicas", ("models", "llm", "replicas")),
        ("links.0.latency", ("links", 0, "latency")),
        ("links[0].latency", ("links", 0, "latency")),
        ("links[0].between[1]", ("links", 0, "between", 1)),
        ("a[0][1]", ("a", 0, 1)),
        (" name ", ("name",)),
        (("models", "llm"), ("models", "llm")),
    ],
)
def test_a_path_is_read_into_steps(text: Any, steps: tuple[Any, ...]) -> None:
    """Dots and brackets name fields and list items."""
    assert paths.parse_path(text) == steps


@pytest.mark.parametrize("text", ["", ".", "a.", ".a", "a..b", "a[", "a[]", "a[x]", "a]", "[0]", "a[0]b", "a[-1]"])
def test_a_malformed_path_is_refused(text: str) -> None:
    """The error shows what a path looks like."""
    with pytest.raises(ScenarioError, match="must be names joined by dots, such as"):
        paths.parse_path(text)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("models.llm.replicas", 2),
        ("links.1.latency", "2 ms"),
        ("links[0].between[1]", "b"),
        ("models.llama-3.1.replicas", 1),
        (("models", "llama-3.1", "replicas"), 1),
        ("empty", {}),
    ],
)
def test_a_value_is_found(path: Any, value: Any) -> None:
    """Names that hold a dot are found too."""
    assert paths.get(DATA, path) == value


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("models.lm.replicas", "models.lm: no such field; did you mean `llm`?"),
        ("models.llm.replcas", "models.llm.replcas: no such field; did you mean `replicas`?"),
        ("zzz", "zzz: no such field; the fields here are `models`, `links`, `name`, `empty`"),
        ("empty.a", "empty.a: no such field; there are no fields here"),
        ("links.2.latency", "links.2: no such item; `links` has 2 items, numbered from 0"),
        ("links.first", "links.first: no such item; `links` has 2 items, numbered from 0"),
        ("name.first", "name.first: `name` is 'x', which has no fields"),
        ("name.first.second", "name.first: `name` is 'x', which has no fields"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused(path: str, message: str) -> None:
    """The error names the first step that fails, and the nearest name."""
    with pytest.raises(ScenarioError) as caught:
        paths.get(DATA, path)
    assert str(caught.value) == f"the path `{path}` has 1 mistake\n  {message}"


def test_a_change_leaves_the_original_alone() -> None:
    """A changed scenario is a copy, in depth."""
    before = copy.deepcopy(DATA)
    changed = paths.replace(DATA, "links[0].between[1]", "c")
    assert changed["links"][0]["between"] == ["a", "c"]
    changed["models"]["llm"]["replicas"] = 99
    assert before == DATA


def test_a_change_may_add_a_field_but_no_parent_and_no_item() -> None:
    """An optional field may be set for the first time; anything else is likely a misspelling."""
    assert paths.replace(DATA, "models.llm.context", "8k tokens")["models"]["llm"]["context"] == "8k tokens"
    with pytest.raises(ScenarioError, match="did you mean `models`"):
        paths.replace(DATA, "model.llm.replicas", 1)
    with pytest.raises(ScenarioError, match="no such item"):
        paths.replace(DATA, "links.2", {})
    with pytest.raises(ScenarioError, match="`name` is 'x', which has no fields"):
        paths.replace(DATA, "name.first", 1)
    with pytest.raises(ScenarioError, match="names no field"):
        paths.replace(DATA, (), 1)


def test_a_value_that_is_set_is_not_shared() -> None:
    """Changing the value afterwards changes no scenario."""
    value = {"kind": "llm"}
    changed = paths.replace(DATA, "models.llm", value)
    value["kind"] = "api"
    assert changed["models"]["llm"] == {"kind": "llm"}

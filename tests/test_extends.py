"""Extending a scenario and overriding its values: what a patch changes, and what it may not."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordsim.sim.engine.errors import Problem, ScenarioError
from coordsim.sim.engine.merge import ONE_OF_KEYS, merge
from coordsim.sim.engine.nodes import Position, from_plain, plain
from coordsim.sim.engine.source import Document, load


def write(folder: Path, **files: str) -> Path:
    """Write `name=text` as name.yaml and return the path of the first."""
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    return folder / f"{next(iter(files))}.yaml"


# --- extends --------------------------------------------------------------------------------------------------------

BASE = """\
name: base
runtime: ideal
tools:
  search: {latency: {lognormal: {median: 1 s, p95: 3 s}}, capacity: 20}
  python: {latency: 2 s}
models:
  llm: {kind: llm, replicas: 2}
links: [1, 2]
"""


def merged(tmp_path: Path, patch: str, base: str = BASE) -> Document:
    """Return the document of a patch over a base."""
    return load(write(tmp_path, patch=f"extends: base.yaml\n{patch}", base=base))


@pytest.mark.parametrize(
    ("patch", "path", "value"),
    [
        ("name: new", ("name",), "new"),
        ("tools: {search: {capacity: 5}}", ("tools", "search", "capacity"), 5),
        ("tools: {search: {capacity: 5}}", ("tools", "python", "latency"), "2 s"),
        ("tools: {python: null}", ("tools",), {"search": {"latency": {"lognormal": {"median": "1 s", "p95": "3 s"}},
                                                         "capacity": 20}}),
        ("links: [3]", ("links",), [3]),
        ("tools: {search: {latency: {constant: 1 s}}}", ("tools", "search", "latency"), {"constant": "1 s"}),
        ("tools: {search: {latency: 4 s}}", ("tools", "search", "latency"), "4 s"),
        ("tools: {python: {latency: {constant: 1 s}}}", ("tools", "python", "latency"), {"constant": "1 s"}),
        ("tools: {search: {latency: {lognormal: {p95: 9 s}}}}", ("tools", "search", "latency", "lognormal"),
         {"median": "1 s", "p95": "9 s"}),
        ("models: {llm: {replicas: 4}}", ("models", "llm"), {"kind": "llm", "replicas": 4}),
        ("models: {llm: {kind: api}}", ("models", "llm"), {"kind": "api"}),
        ("runtime: {polling: 5 ms}", ("runtime",), {"preset": "ideal", "polling": "5 ms"}),
        ("runtime: {preset: agent-native}", ("runtime",), {"preset": "agent-native"}),
        ("runtime: agent-native", ("runtime",), "agent-native"),
    ],
)  # fmt: skip
def test_a_patch_is_merged_into_its_base(tmp_path: Path, patch: str, path: tuple[str, ...], value: object) -> None:
    """Mappings merge; null deletes; lists, scalars and another choice replace."""
    found: Any = merged(tmp_path, patch).data
    for step in path:
        found = found[step]
    assert found == value


def test_an_empty_patch_changes_nothing(tmp_path: Path) -> None:
    """A scenario extended by nothing is itself, without the `extends`."""
    assert merged(tmp_path, "").data == Document.from_text(BASE).data
    assert list(merged(tmp_path, "").data) == list(Document.from_text(BASE).data)


@given(
    base=st.recursive(
        st.integers() | st.text("xyz", max_size=3),
        lambda inner: st.dictionaries(st.sampled_from("abcd"), inner, max_size=3) | st.lists(inner, max_size=2),
        max_leaves=12,
    )
)
def test_merging_anything_with_itself_or_with_nothing_changes_nothing(base: Any) -> None:
    """The two patches that say nothing new."""
    problems: list[Problem] = []
    tree = from_plain({"a": base}, Position("base"))
    for patch in (from_plain({}, Position("patch")), tree):
        assert plain(merge(tree, patch, problems)) == {"a": base}
    assert not problems


def test_each_value_cites_the_file_that_wrote_it(tmp_path: Path) -> None:
    """An error in the base is shown in the base."""
    document = merged(tmp_path, "tools:\n  search:\n    capacity: 5\n")
    patch, base = str(tmp_path / "patch.yaml"), str(tmp_path / "base.yaml")
    assert document.where(("tools", "search", "capacity")) == Position(patch, 4, 15, "    capacity: 5")
    assert document.where(("tools", "search", "latency")).file == base
    assert document.where(("name",)) == Position(base, 1, 7, "name: base")
    assert document.files == [tmp_path / "patch.yaml", tmp_path / "base.yaml"]


def test_several_bases_apply_in_order(tmp_path: Path) -> None:
    """The later base wins over the earlier one, and the file itself over both."""
    path = write(
        tmp_path,
        main="extends: [one.yaml, two.yaml]\nc: main",
        one="extends: zero.yaml\na: one\nb: one\nc: one",
        two="b: two\nc: two\nz: null",
        zero="a: zero\nz: zero",
    )
    document = load(path)
    assert document.data == {"a": "one", "z": "zero", "b": "two", "c": "main"}
    assert [file.name for file in document.files] == ["main.yaml", "one.yaml", "zero.yaml", "two.yaml"]


@pytest.mark.parametrize(
    ("patch", "report"),
    [
        ("tool: null", "  2:1  tool: nothing to delete; did you mean `tools`?\n       | tool: null"),
        ("tools: {serch: null}", "  2:9  tools.serch: nothing to delete; did you mean `search`?\n       | tools: {serch: null}"),
        ("new: {a: null}", "  2:7  new.a: nothing to delete\n       | new: {a: null}"),
    ],
)  # fmt: skip
def test_deleting_what_is_not_there_is_a_mistake(tmp_path: Path, patch: str, report: str) -> None:
    """It is a misspelling, or the base has changed."""
    with pytest.raises(ScenarioError) as caught:
        merged(tmp_path, patch)
    assert str(caught.value).partition("\n")[2] == report


def test_extends_in_a_circle_shows_the_circle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long, and for a file that extends itself."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, a="extends: b.yaml", b="extends: c.yaml", c="extends: b.yaml", own="extends: ./own.yaml")
    with pytest.raises(ScenarioError) as caught:
        load("a.yaml")
    assert str(caught.value).startswith(
        "c.yaml has 1 mistake\n  1:10  extends: extends in a circle: `b.yaml` -> `c.yaml` -> `b.yaml`"
    )
    with pytest.raises(ScenarioError, match=r"extends in a circle: `own\.yaml` -> `own\.yaml`"):
        load("own.yaml")


@pytest.mark.parametrize(
    ("extends", "message"),
    [
        ("bsae.yaml", "bsae.yaml; did you mean `base.yaml`?"),
        ("5", "must be the name of a YAML file, or a list of them"),
        ('"a\\0b"', "extends: no such file"),
        ("a" * 5000, "extends: no such file"),
        ("{a: b}", "must be the name of a YAML file, or a list of them"),
        ("[base.yaml, null]", "must be the name of a YAML file, or a list of them"),
        ("", "must be the name of a YAML file, or a list of them"),
    ],
)
def test_a_base_that_cannot_be_is_refused(tmp_path: Path, extends: str, message: str) -> None:
    """The mistake is cited at the `extends`."""
    path = write(tmp_path, s=f"extends: {extends}\n", base="a: 1")
    with pytest.raises(ScenarioError) as caught:
        load(path)
    assert message in str(caught.value)
    assert caught.value.problems[0].line == 1


def test_a_broken_base_is_reported_in_its_own_name(tmp_path: Path) -> None:
    """The user sees which file to mend."""
    path = write(tmp_path, s="extends: base.yaml", base="a: [")
    with pytest.raises(ScenarioError) as caught:
        load(path)
    assert str(caught.value).startswith(
        f"{tmp_path / 'base.yaml'} has 1 mistake\n  1:4  the bracket `[` that opens here"
    )


def test_a_chain_without_end_is_cut(tmp_path: Path) -> None:
    """Files that extend one another have a limit, below the limit of the stack."""
    files = {f"f{i}": f"extends: f{i + 1}.yaml" for i in range(50)}
    with pytest.raises(ScenarioError, match="more than 32 files extend one another"):
        load(write(tmp_path, **files, f50="a: 1"))


def test_a_base_named_many_times_is_read_once(tmp_path: Path) -> None:
    """Ten files that each name the next one ten times are ten reads, not 10^10."""
    files = {f"f{i}": f"extends: [{', '.join([f'f{i + 1}.yaml'] * 10)}]" for i in range(10)}
    assert load(write(tmp_path, **files, f10="a: 1")).data == {"a": 1}


def test_a_file_is_named_from_the_yaml_that_wrote_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trace beside a base is found from wherever the run starts."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lib").mkdir()
    write(tmp_path / "lib", base="trace: {file: a.csv}\nmore: [{file: /abs.csv}]\ntools: {file: {x: 1}}")
    write(tmp_path, s="extends: lib/base.yaml\nother: {file: b.csv}")
    data = load("s.yaml").data
    assert data["trace"]["file"] == str(Path("lib") / "a.csv")
    assert data["more"] == [{"file": "/abs.csv"}]
    assert data["tools"] == {"file": {"x": 1}}
    assert data["other"]["file"] == "b.csv"
    assert load(tmp_path / "s.yaml").data["other"]["file"] == str(tmp_path / "b.csv")


def test_the_choices_known_to_the_merge_hold_no_common_name() -> None:
    """A component called like a distribution would be replaced instead of merged."""
    assert not ONE_OF_KEYS & {"search", "python", "llm", "planner", "kind", "preset", "latency"}


# --- overrides ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "text", "where", "value"),
    [
        ("models.llm.replicas", "4", ("models", "llm", "replicas"), 4),
        ("tools.search.latency", "{constant: 1 s}", ("tools", "search", "latency"), {"constant": "1 s"}),
        ("tools.search.latency", "40 ms", ("tools", "search", "latency"), "40 ms"),
        ("tools.search.note", "hello", ("tools", "search", "note"), "hello"),
        ("tools.search.note", "", ("tools", "search", "note"), ""),
        ("links[0]", "9", ("links",), [9, 2]),
        ("tools.python", "null", ("tools",), {"search": {"latency": {"lognormal": {"median": "1 s", "p95": "3 s"}},
                                                         "capacity": 20}}),
        ("runtime.polling", "5 ms", ("runtime",), {"preset": "ideal", "polling": "5 ms"}),
        ("runtime.preset", "agent-native", ("runtime",), {"preset": "agent-native"}),
        ("runtime", "stateless-api", ("runtime",), "stateless-api"),
    ],
)  # fmt: skip
def test_an_override_replaces_one_value(path: str, text: str, where: tuple[str, ...], value: object) -> None:
    """`--set path=value` takes YAML, and cites itself."""
    before = Document.from_text(BASE, "s.yaml")
    after = before.with_override(path, text)
    found: Any = after.data
    for step in where:
        found = found[step]
    assert found == value
    assert before.data == Document.from_text(BASE).data


def test_an_override_is_cited_as_it_was_given() -> None:
    """A mistake in an override points at the command line, and not at the file."""
    document = Document.from_text(BASE, "s.yaml").with_override("models.llm.replicas", "-1")
    assert document.where(("models", "llm", "replicas")) == Position("--set models.llm.replicas=-1")
    assert document.where(("models", "llm", "kind")).line == 7


@pytest.mark.parametrize(
    ("path", "text", "message"),
    [
        ("models.lm.replicas", "4", "models.lm: no such field; did you mean `llm`?"),
        ("name.first", "4", "name.first: `name` is 'base', which has no fields"),
        ("links.7", "4", "links.7: no such item; `links` has 2 items, numbered from 0"),
        ("tools.pyton", "null", "tools.pyton: nothing to delete; did you mean `python`?"),
        ("links[0]", "null", "links.0: an item of a list cannot be deleted; give the whole list"),
        ("models.llm.replicas", "[1", "the bracket `[` that opens here is never closed"),
        ("models.llm.replicas", "!x 1", "are not used here"),
        ("", "4", "must be names joined by dots"),
    ],
)
def test_an_override_that_leads_nowhere_is_refused(path: str, text: str, message: str) -> None:
    """With the option itself as the subject."""
    with pytest.raises(ScenarioError) as caught:
        Document.from_text(BASE, "s.yaml").with_override(path, text)
    assert message in str(caught.value)

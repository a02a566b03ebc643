"""The scenario: what it refers to, changing it, writing it out and reading it back, extending it, and its schema."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from coordsim.models.scenario import Scenario, load
from coordsim.models.workflow import Workflow
from coordsim.sim.analysis.slo import Objective
from coordsim.sim.engine.errors import ScenarioError
from coordsim.sim.engine.partial import partial
from coordsim.sim.engine.schema import json_schema
from coordsim.sim.engine.source import Document
from coordsim.sim.engine.spec import validate

from .json_schema import Checker

ROOT = Path(__file__).resolve().parent.parent
BASE = Path(__file__).parent / "data" / "bad" / "parts" / "base.yaml"
SHIPPED = sorted((ROOT / "scenarios").rglob("*.yaml"))

SMALL = """\
coordsim: 1
name: small
seed: 1
runtime: ideal
workload: {arrivals: {poisson: 1 / s}, tasks: 10}
models:
  llm: {kind: llm, overhead: 1 s}
agents:
  planner: {model: llm}
tools:
  search: {latency: 1 s}
workflow:
  start: plan
  steps:
    plan: {agent: planner}
"""


def small(*changes: tuple[str, str]) -> Scenario:
    """Return the small scenario with each (old, new) text replaced."""
    text = SMALL
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return Scenario.from_text(text, "small.yaml")


def refusal(*changes: tuple[str, str]) -> list[str]:
    """Return the mistakes of the small scenario with each (old, new) text replaced."""
    with pytest.raises(ScenarioError) as caught:
        small(*changes)
    return [f"{problem.path}: {problem.message}" for problem in caught.value.problems]


# --- loading --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [BASE, *SHIPPED], ids=lambda path: path.name)
def test_a_scenario_written_out_is_read_back_equal(path: Path) -> None:
    """The resolved scenario says the same as the file it came from, defaults and extended files and all."""
    scenario = load(path)
    again = Scenario.from_text(scenario.to_yaml(), "resolved.yaml")
    assert again == scenario
    assert again.to_yaml() == scenario.to_yaml()
    assert again.hash == scenario.hash
    assert hash(again) == hash(scenario)


def test_what_is_written_out_means_the_same() -> None:
    """A codec of `none`, a Markov chain without `repeat` and an evaluator without `next` keep what they leave out."""
    scenario = load(BASE, {"runtime.codec": "none"})
    data = scenario.to_data()
    again = Scenario.from_text(scenario.to_yaml())
    assert data["runtime"]["codec"] == "none"
    assert scenario.runtime.codec is None
    assert again.runtime.codec is None
    assert "repeat" not in data["workflows"]["deep"]["steps"]["work"]
    assert "repeat" not in again.workflows["deep"].steps["work"].model_fields_set
    assert "repeat" in again.workflow.steps["act"].model_fields_set
    assert "next" not in data["workflow"]["steps"]["review"]


def test_the_hash_follows_what_a_scenario_says_and_not_how() -> None:
    """Layout, comments and the unit of a quantity leave it; any value changes it."""
    hashes = {
        small().hash,
        small(("seed: 1\n", "# a comment\nseed: 1\n")).hash,
        small(("overhead: 1 s", "overhead: 1000 ms")).hash,
        small(("{poisson: 1 / s}", "{poisson: 60 / min}")).hash,
    }
    assert len(hashes) == 1
    changed = [small(("seed: 1\n", "seed: 2\n")), small(("overhead: 1 s", "overhead: 1.001 s"))]
    assert len({*hashes, *(scenario.hash for scenario in changed)}) == 3


def test_the_hash_follows_the_contents_of_files(tmp_path: Path) -> None:
    """A trace counts by its rows: copied it is the same, changed it is another; the written scenario finds it anywhere."""
    texts = {"a": "timestamp\n0\n1\n", "b": "timestamp\n0\n2\n"}
    hashes = []
    for folder, text in (("one", "a"), ("two", "a"), ("three", "b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "t.csv").write_text(texts[text])
        yaml = SMALL.replace("{poisson: 1 / s}, tasks: 10", "{trace: {file: t.csv}}")
        (tmp_path / folder / "s.yaml").write_text(yaml)
        scenario = load(tmp_path / folder / "s.yaml")
        (tmp_path / f"{folder}.yaml").write_text(scenario.to_yaml())
        assert load(tmp_path / f"{folder}.yaml") == scenario
        hashes.append(scenario.hash)
    assert hashes[0] == hashes[1] != hashes[2]


def test_the_order_of_hashing_changes_no_message() -> None:
    """Two processes with other hash seeds tell the same mistakes in the same order."""
    code = (
        "from coordsim.models.scenario import load\n"
        "try: load('many-mistakes.yaml')\n"
        "except Exception as error: print(error)\n"
        "try: load('workflow-inside-itself.yaml')\n"
        "except Exception as error: print(error)\n"
    )
    told = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=BASE.parent.parent,
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1
    assert "18 mistakes" in told.pop()


def test_a_scenario_travels_between_processes() -> None:
    """Pickled and back it is equal, and can still be changed."""
    copy = pickle.loads(pickle.dumps(load(BASE)))
    assert copy == load(BASE)
    assert copy.replace("seed", 8).seed == 8


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder, nothing at all, and a file that the system withholds."""
    with pytest.raises(ScenarioError, match="is a directory; name a YAML file in it"):
        load(tmp_path)
    with pytest.raises(ScenarioError, match="no such file"):
        load(tmp_path / "none.yaml")
    (tmp_path / "s.yaml").write_text(SMALL)

    def withheld(_: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", withheld)
    with pytest.raises(ScenarioError, match="cannot be read: permission denied"):
        load(tmp_path / "s.yaml")


# --- changing -------------------------------------------------------------------------------------------------------


def test_a_change_makes_a_copy() -> None:
    """`replace` leaves the scenario as it was, takes text, numbers and data, and checks the result."""
    before = small()
    after = before.replace("models.llm.replicas", 4)
    assert (before.models["llm"].to_data()["replicas"], after.models["llm"].to_data()["replicas"]) == (1, 4)
    assert before.replace("tools.search.latency", "40 ms").tools["search"].latency.mean == pytest.approx(0.04)
    uniform = before.replace("tools.search.latency", {"uniform": {"low": "1 s", "high": "3 s"}})
    assert uniform.tools["search"].latency.mean == pytest.approx(2.0)
    assert before.replace("tools.search", after.tools["search"]) == before
    assert before.replace("runtime.state", "full").runtime.preset == "ideal"
    assert before == small()
    with pytest.raises(ScenarioError, match=r"models\.llm\.replicas: must be a whole number >= 1; got 0"):
        before.replace("models.llm.replicas", 0)
    with pytest.raises(ScenarioError, match="did you mean `replicas`"):
        before.replace("models.llm.repicas", 2)
    with pytest.raises(ScenarioError, match="did you mean `models`"):
        before.replace("model.llm.replicas", 2)


def test_a_scenario_built_in_python_can_be_changed_too() -> None:
    """Without a file, positions are paths."""
    built = Scenario.model_validate(small().to_data())
    assert built == small()
    assert built.replace("seed", 3).seed == 3
    with pytest.raises(ScenarioError) as caught:
        built.replace("agents.planner.model", "lm")
    assert "agents.planner.model: `models` has no `lm`; did you mean `llm`?" in str(caught.value)


def test_overrides_apply_in_order_and_cite_themselves(tmp_path: Path) -> None:
    """`--set` changes the last word, also on a bare runtime preset, and a mistake in it points at it."""
    (tmp_path / "s.yaml").write_text(SMALL)
    scenario = load(tmp_path / "s.yaml", {"runtime.state": "delta", "seed": "9", "runtime.kv": "discard"})
    assert (scenario.runtime.preset, scenario.runtime.state, scenario.runtime.kv) == ("ideal", "delta", "discard")
    assert scenario.seed == 9
    with pytest.raises(ScenarioError) as caught:
        load(tmp_path / "s.yaml", {"agents.planner.model": "lm"})
    assert "--set agents.planner.model=lm" in str(caught.value)


def test_a_patch_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    """Extended by nothing a scenario is the same; extended by one value it differs in that value."""
    (tmp_path / "base.yaml").write_text(SMALL)
    (tmp_path / "same.yaml").write_text("extends: base.yaml\n")
    (tmp_path / "other.yaml").write_text("extends: base.yaml\nmodels: {llm: {replicas: 3}}\n")
    base, same, other = (load(tmp_path / f"{name}.yaml") for name in ("base", "same", "other"))
    assert same == base
    assert same.hash == base.hash
    assert other != base
    assert other == base.replace("models.llm.replicas", 3)


# --- references -----------------------------------------------------------------------------------------------------


def test_dangling_references_come_with_all_other_mistakes() -> None:
    """A mistake inside of a part hides none between parts, and a part with a mistake can still be named."""
    found = refusal(
        ("{model: llm}", "{model: lm, prompt: 5}"),
        ("overhead: 1 s", "overhead: 1"),
        ("{latency: 1 s}", "{latency: 1 s, colour: blue, node: pod}"),
        ("{agent: planner}", "{agent: planner, tools: {search: 1, serch: 1}, skip: 2, next: plam}"),
    )
    assert [one.partition(":")[0] for one in found] == [
        "models.llm.overhead",
        "agents.planner.model",
        "agents.planner.prompt",
        "tools.search.colour",
        "tools.search.node",
        "workflow.steps.plan.tools.serch",
        "workflow.steps.plan.skip",
        "workflow.steps.plan.next",
    ]


def test_what_cannot_be_read_may_hold_any_name() -> None:
    """Where all agents are one mistake, a step that names one of them is no second mistake."""
    assert refusal(("agents:\n  planner: {model: llm}", "agents: [planner]")) == [
        "agents: must be a mapping; got a list"
    ]


def test_the_valid_parts_of_a_refused_scenario_are_kept() -> None:
    """Each part that is valid is as it would be; each that is not is hollow, and names are never lost."""
    data: dict[str, Any] = Document.from_text(SMALL).data
    data["models"]["llm"]["replicas"] = -1
    data["agents"] |= {"other": 5}
    data["network"] = {"links": [{"between": ["a", "b"]}, "x", {"between": ["b"], "latency": "1 ms"}]}
    data["workload"] = []
    found = partial(Scenario, data)
    assert (found.name, found.seed) == ("small", 1)
    assert found.models["llm"].node is None
    assert list(found.agents) == ["planner", "other"]
    assert found.agents["planner"] == small().agents["planner"]
    assert [link.named_ends() for link in found.network.links] == [
        [(("between", 0), "a"), (("between", 1), "b")],
        [],
        [(("between", 0), "b")],
    ]
    assert found.workflow == small().workflow


LOOP = "plan: {agent: planner, tools: {markov: {start: {search: 1}, search: {search: 0.5, end: 0.5}}}}"


@pytest.mark.parametrize(
    ("steps", "mistake"),
    [
        ("plan: {agent: planner, next: plan}", "never comes to `done`: `plan` leads only to itself"),
        ("plan: {agent: planner, replan: {plan: 100 %}, next: plan}", "never comes to `done`"),
        ("plan: {fork: [plan]}", "the branch comes to `done` only by forking again at `plan`"),
        ("plan: {fork: [a]}\n    a: {tool: search, next: plan}", "only by forking again"),
        (LOOP.replace(", end: 0.5", ""), "never comes to `end`"),
        (LOOP.replace("search: {search: 0.5, end: 0.5}", "search: {}"), "has no weights"),
        (LOOP.replace("start:", "begin:"), "has no row `start`"),
        ("plan: {agent: planner, elasticity: 0.5}", "needs `repeat`"),
    ],
)
def test_a_workflow_without_a_way_out_is_refused(steps: str, mistake: str) -> None:
    """A cycle, a fork inside itself, a chain of tools without end."""
    assert mistake in "\n".join(refusal(("plan: {agent: planner}", steps)))


@pytest.mark.parametrize(
    "steps",
    [
        "plan: {agent: planner, next: {plan: 0.9, done: 0.1}}",
        "plan: {agent: planner, replan: {done: 10 %}, next: plan}",
        "plan: {fork: [a]}\n    a: {tool: search, next: {plan: 0.1, done: 0.9}}",
        LOOP,
        LOOP.replace("search: 0.5, end: 0.5", "search: 1").replace("planner,", "planner, repeat: 3,"),
        LOOP.replace("search: 0.5, end: 0.5", "search: 1").replace("planner,", "planner, at_most: 3,"),
        LOOP.replace("search: {search: 0.5, end: 0.5}", "search: {none: 0.5, end: 0.5}"),
    ],
)
def test_a_workflow_that_can_end_is_accepted(steps: str) -> None:
    """A way out that is taken now and then is enough."""
    assert small(("plan: {agent: planner}", steps)).workflow.start == "plan"


def test_a_workflow_alone_leaves_unknown_names_to_the_scenario() -> None:
    """It cannot know what else there is."""
    document = Document.from_text("start: a\nsteps: {a: {fork: [b, elsewhere]}, b: {tool: t}}")
    assert validate(Workflow, document).start == "a"


# --- objectives -----------------------------------------------------------------------------------------------------


def test_objectives_are_read_with_their_units() -> None:
    """Times in seconds, shares, rates, tokens and money, each with the sense its metric has."""
    scenario = Scenario.from_text(
        SMALL
        + "slo: {p95: 1.5 min, queueing_p99: 0 s, success: 99 %, goodput: 30 / min, output_tokens_mean: 2k tokens,"
        " cost_max: $0.02, tool_errors_max: 0, bytes_mean: 2 MB}\n"
    )
    assert scenario.objectives == (
        Objective("p95", 90.0, "<="),
        Objective("queueing_p99", 0.0, "<="),
        Objective("success", 0.99, ">="),
        Objective("goodput", 0.5, ">="),
        Objective("output_tokens_mean", 2000.0, "<="),
        Objective("cost_max", 0.02, "<="),
        Objective("tool_errors_max", 0.0, "<="),
        Objective("bytes_mean", 2e6, "<="),
    )
    assert Scenario.from_text(scenario.to_yaml()) == scenario
    assert small().objectives == ()


@pytest.mark.parametrize(
    ("metric", "threshold", "message"),
    [
        ("p95", "30.5", "must carry a unit, such as `250 ms`; got 30.5"),
        ("success", "2", "must be a share from 0 to 1, such as `80 %`; got 2"),
        ("goodput", "5 s", "the slash is missing; write `/ s`"),
        ("median", "1 s", "no such metric; did you mean `p50`?"),
        ("queing_p95", "1 s", "no such metric; did you mean `queueing_p95`?"),
        ("p95", "[]", "got an empty list"),
    ],
)
def test_an_objective_that_cannot_be_is_refused(metric: str, threshold: str, message: str) -> None:
    """At its own line, with the metric that was meant."""
    (found,) = refusal(("seed: 1\n", f"seed: 1\nslo: {{{metric}: {threshold}}}\n"))
    assert found.startswith(f"slo.{metric}: ")
    assert found.endswith(message)


# --- schema ---------------------------------------------------------------------------------------------------------

CHECKER = Checker(json_schema(Scenario))


def written(text: str) -> Any:
    """Return what an editor sees of a file: its own data, `extends` among it."""
    from ruamel.yaml import YAML

    return YAML(typ="safe", pure=True).load(text)


def test_the_schema_is_of_one_piece() -> None:
    """Every reference leads to a definition, every definition is used, every pattern compiles, every keyword is known."""
    used = {reference.removeprefix("#/$defs/") for reference in CHECKER.definitions()}
    assert used == set(CHECKER.root["$defs"])
    assert CHECKER.root["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("path", [BASE, *SHIPPED], ids=lambda path: path.name)
def test_the_schema_accepts_every_good_scenario(path: Path) -> None:
    """As written, and as written out."""
    assert CHECKER.accepts(written(path.read_text(encoding="utf-8")))
    assert CHECKER.accepts(load(path).to_data())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("seed: 1", "sead: 1"),
        ("coordsim: 1", "coordsim: 2"),
        ("overhead: 1 s", "overhead: 1"),
        ("kind: llm", "kind: lm"),
        ("{latency: 1 s}", "{latency: {lognorml: {median: 1 s, p95: 2 s}}}"),
        ("{latency: 1 s}", "{latency: {constant: 1 s, exponential: {mean: 1 s}}}"),
        ("{agent: planner}", "{agent: planner, tool: search}"),
        ("{agent: planner}", "{next: done}"),
        ("runtime: ideal", "runtime: idael"),
        ("tasks: 10", "tasks: 0"),
        ("tasks: 10", "tasks: 10, warmup: autp"),
        ("agents:\n  planner: {model: llm}", "agents: []"),
    ],
)
def test_the_schema_refuses_what_an_editor_can_see(old: str, new: str) -> None:
    """Misspelt fields, kinds and presets, missing units, two kinds at once."""
    assert CHECKER.accepts(written(SMALL))
    assert not CHECKER.accepts(written(SMALL.replace(old, new)))


@pytest.mark.parametrize(
    ("patch", "fits"),
    [
        ("models: {llm: {replicas: 4}}", True),
        ("tools: {search: null}", True),
        ("runtime: {state: delta}", True),
        ("workflow: {steps: {plan: {next: done}}}", True),
        ("tools: {search: {latency: {lognormal: {p95: 9 s}}}}", True),
        ("modles: {llm: {replicas: 4}}", False),
        ("models: {llm: {replicas: many}}", False),
        ("network: {links: [{latency: 5}]}", False),
    ],
)
def test_the_schema_knows_patches(patch: str, fits: bool) -> None:
    """A file that extends another needs no required field and may delete, but fields and units are still known."""
    assert CHECKER.accepts(written(f"extends: base.yaml\n{patch}\n")) is fits
    assert not CHECKER.accepts(written(f"{patch}\n"))

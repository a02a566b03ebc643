"""The scenario: the frozen description of a system and its load.

Leaves out: how it runs (`simulate`); what a component may say (its own file).
Checked: tests/test_scenario.py, tests/data/bad.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from pydantic import BeforeValidator, Field, PlainSerializer, PrivateAttr, model_validator

from ..sim.analysis.slo import Objective
from ..sim.engine import paths
from ..sim.engine.distributions import AnyDraw, TokensDist
from ..sim.engine.errors import Problem, ProfileError, ScenarioError, show
from ..sim.engine.nodes import names_file
from ..sim.engine.paths import Key
from ..sim.engine.source import Document
from ..sim.engine.source import load as load_document
from ..sim.engine.spec import (
    BytesPerToken,
    Count,
    Factor,
    Name,
    PositiveCount,
    Share,
    Spec,
    SpecProblems,
    validate,
)
from ..sim.profile.profile import Profile
from ..sim.profile.profile import find as find_profile
from ..sim.profile.profile import machine as read_machine
from ..sim.report.html import to_html
from ..sim.report.layout import Report
from ..sim.report.overview import overview
from .agent import Agent
from .api import Api
from .compare import CompareSpec
from .encoder import Encoder
from .evaluator import Evaluator
from .fault_references import doubts as fault_doubts
from .faults import Fault
from .handling import Handling
from .llm import Llm
from .memory import Memory
from .modality import Modality
from .network import Network
from .orchestrator import Orchestrator
from .perceive_step import PerceiveStep
from .plan import PlanSpec
from .recovery import Recovery
from .references import problems
from .retriever import Retriever
from .runtime import DEFAULT, Runtime
from .scaling import ScalingSpec
from .sensitivity import SensitivitySpec
from .serializer import Codec, Serializer, defaults
from .slo import Slo, objectives
from .step import Step
from .study import StudySpec
from .tool import Tool
from .workflow import Workflow
from .workload import Workload

SCHEMA_VERSION = 1

Model = Annotated[Llm | Api, Field(discriminator="kind")]


def _version(value: object) -> object:
    """Refuse what is no version of the schema, and say which one is."""
    if isinstance(value, bool) or not (isinstance(value, int) and value == SCHEMA_VERSION):
        got = f'"{value}", a text' if isinstance(value, str) and value.strip().isdigit() else show(value)
        rule = f"must be {SCHEMA_VERSION}, the version of the schema and not of the program"
        raise ValueError(f"{rule}; got {got}: write `coordsim: {SCHEMA_VERSION}`")
    return value


def _some_names(value: object) -> object:
    """Take one name for a list of one."""
    return [value] if isinstance(value, str) else value


def _one_name(value: tuple[str, ...]) -> str | tuple[str, ...]:
    return value[0] if len(value) == 1 else value


ProfileNames = Annotated[
    tuple[str, ...], BeforeValidator(_some_names, json_schema_input_type=str | list[str]), PlainSerializer(_one_name)
]
Version = Annotated[Literal[1], BeforeValidator(_version)]


class TaskClass(Spec):
    """A kind of task: how often it comes (`weight`), what it asks (`request` tokens), which workflow it runs.

    `priority` is added to that of its agents.
    """

    weight: Factor = 1.0
    priority: Count = 0
    request: TokensDist | None = None
    workflow: Name | None = None


class ContextSpec(Spec):
    """How tokens become bytes when state is sent, and whether what a task carries grows.

    `grows: false` is an idealization, to see what growth costs: what was there before is never sent, computed, looked up, paid for
    or written again. A call takes in what is new to its model, and outputs, results and draws stay as they are.
    """

    bytes_per_token: BytesPerToken = 5.0
    grows: bool = True


class Scenario(Spec):
    """A scenario as a file says it, with defaults filled in.

    `profile` names profiles that ship, or files, or several: kernels come from the first that has any, and of two laws of
    the host with one name the earlier profile's holds.
    """

    may_extend: ClassVar[bool] = True

    coordsim: Version = Field(examples=[SCHEMA_VERSION])
    name: Name
    question: str = ""
    notes: str = ""
    seed: Count = Field(examples=[1])
    profile: ProfileNames = ()
    runtime: Runtime = Runtime.model_validate(DEFAULT)
    workload: Workload
    classes: dict[Name, TaskClass] = {}
    context: ContextSpec = ContextSpec()
    agents: dict[Name, Agent] = {}
    models: dict[Name, Model] = {}
    tools: dict[Name, Tool] = {}
    memories: dict[Name, Memory] = {}
    retrievers: dict[Name, Retriever] = {}
    evaluators: dict[Name, Evaluator] = {}
    modalities: dict[Name, Modality] = {}
    encoders: dict[Name, Encoder] = {}
    serializers: dict[Name, Serializer] = {}
    network: Network = Network()
    orchestrator: Orchestrator = Orchestrator()
    workflow: Workflow
    workflows: dict[Name, Workflow] = {}
    max_steps: PositiveCount = 1000
    faults: dict[Name, Fault] = {}
    recovery: Recovery = Recovery()
    slo: Slo = {}
    compare: CompareSpec | None = None
    scaling: ScalingSpec | None = None
    study: StudySpec | None = None
    sensitivity: SensitivitySpec | None = None
    plan: PlanSpec | None = None
    replications: PositiveCount = 10
    confidence: Annotated[Share, Field(gt=0, lt=1)] = 0.95

    _document: Document | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _references(self) -> Self:
        found = list(problems(self))
        if found:
            raise SpecProblems(found)
        return self

    @classmethod
    def of(cls, document: Document) -> Self:
        """Check a document. Raises ScenarioError with every mistake."""
        scenario = validate(cls, _migrated(document), across=problems)
        scenario._document = document
        return scenario

    @classmethod
    def overridden(cls, document: Document, path: str | Sequence[Key], text: str) -> Document:
        """Return a document with the value at `path` replaced, as `--set` asks; `path` may lead into what is left at its defaults.

        Raises ScenarioError where a scenario has no such place.
        """
        try:
            return document.with_override(path, text)
        except ScenarioError:
            try:
                steps = paths.resolve(cls.of(document).to_data(), path)
            except ScenarioError:
                steps = ()
            known = [depth for depth in range(1, len(steps)) if not _has(document.data, steps[:depth])]
            if not known:
                raise
            option = f"--set {path if isinstance(path, str) else paths.dotted(tuple(path))}={text}"
            for step in reversed(steps[known[0] :]):
                text = f"{{{step}: {text}}}"
            return document.with_override(steps[: known[0]], text, option)

    @classmethod
    def from_text(cls, text: str, name: str = "text") -> Self:
        """Read a scenario from YAML text."""
        return cls.of(Document.from_text(text, name))

    def replace(self, path: str, value: Any) -> Self:
        """Return a copy with the value at a dotted path replaced, checked anew: `replace("models.llm.replicas", 4)`."""
        return self.replace_all({path: value})

    def replace_all(self, values: Mapping[str, Any]) -> Self:
        """Return a copy with several values replaced (path to value), checked once all are in place."""
        document = self._document or Document.from_data(self.to_data(), self.name)
        try:
            for path, value in values.items():
                document = type(self).overridden(document, path, _text(path, value))
            return type(self).of(document)
        except ScenarioError as error:
            # Nobody wrote `--set`: the path of a mistake says enough.
            problems = [
                Problem(one.path, one.message) if one.file.startswith("--set ") else one for one in error.problems
            ]
            raise ScenarioError(problems, self.name) from None

    def to_data(self) -> dict[str, Any]:
        """Return plain data that loads to an equal scenario from any folder, with every default written out."""
        data: dict[str, Any] = with_files(super().to_data(), _absolute)
        return data

    def to_digest(self) -> dict[str, Any]:
        """Return plain data that is the same wherever files lie: each that is named is the SHA-256 of what is in it."""
        data: dict[str, Any] = with_files(super().to_data(), _digest)
        return data

    def to_yaml(self) -> str:
        """Return the resolved scenario as YAML."""
        return as_yaml(self.to_data())

    @property
    def hash(self) -> str:
        """Return the SHA-256 of the resolved scenario and of what is in the files that it names, wherever they lie."""
        return hashlib.sha256(as_yaml(self.to_digest()).encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        """Whether both say the same, however they were written."""
        return self is other or (isinstance(other, Scenario) and self.to_data() == other.to_data())

    def __hash__(self) -> int:
        """Return a hash for sets and caches."""
        return hash(self.to_yaml())

    def __repr__(self) -> str:
        """Return the name and the question in one line."""
        return f"Scenario {self.name}: {self.question}" if self.question else f"Scenario {self.name}"

    def __str__(self) -> str:
        """Return what it holds, in a few lines."""
        return "\n".join(self._overview())

    def _repr_html_(self) -> str:
        """Return what it holds, for a notebook."""
        return to_html(Report(tuple(self._overview()), "", ()))

    def _overview(self) -> Iterator[str]:
        return (line.strip() for line in overview(self.to_data()))

    @property
    def machine(self) -> Profile | None:
        """The laws of the profiles that the scenario names; None where it names none. Raises ProfileError."""
        return read_machine(self.profile) if self.profile else None

    @property
    def all_serializers(self) -> dict[str, Codec]:
        """The serializers that messages may name: its own, and those of its profile or the defaults."""
        return {**defaults(self.machine), **self.serializers}

    @property
    def all_classes(self) -> dict[str, TaskClass]:
        """The task classes; one named `task` where the scenario has none."""
        return self.classes or {"task": TaskClass()}

    @property
    def steps(self) -> dict[str, Step]:
        """The steps of all workflows, by path, such as `workflow.steps.act`."""
        flows = {"workflow": self.workflow} | {f"workflows.{name}": flow for name, flow in self.workflows.items()}
        return {f"{path}.steps.{name}": step for path, flow in flows.items() for name, step in flow.steps.items()}

    @property
    def handlings(self) -> dict[str, Handling]:
        """What is done about calls that fail, by the path of the component."""
        return {
            f"{kind}.{name}": component.handling
            for kind in ("tools", "retrievers", "memories", "models", "encoders")
            for name, component in getattr(self, kind).items()
        }

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """The objectives that `slo` asks for, with thresholds in seconds, shares and the like."""
        return objectives(self.slo)

    def basis(self) -> list[str]:
        """Return what the models with a shape rest on: times on the profile, how sure its laws are, what was derived."""
        machine = self.machine
        served = {f"models.{name}": model for name, model in self.models.items() if isinstance(model, Llm)}
        parts: dict[str, Llm | Encoder] = served | {f"encoders.{name}": one for name, one in self.encoders.items()}
        return [
            f"{path}: {line}" for path, part in parts.items() if machine is not None for line in part.basis(machine)
        ]

    def doubts(self) -> list[str]:
        """Return what is legal but doubtful: distributions without moments, inputs that nothing takes in, and the like."""
        found = [f"workload: {doubt}" for doubt in self.workload.doubts()]
        for path, draw in _distributions(self, ()):
            found += [f"{'.'.join(path)}: {doubt}" for doubt in draw.doubts()]
        for place, step in self.steps.items():
            if isinstance(step, PerceiveStep):
                found += [f"{place}: {doubt}" for doubt in step.doubts(self.modalities)]
        return found + self._idle() + fault_doubts(self)

    def _idle(self) -> list[str]:
        """Return the modalities that no step takes in, and the encoders that encode none of the others."""
        taken = {name for step in self.steps.values() for _, kind, name in step.uses() if kind == "modalities"}
        encoding = {self.modalities[name].encoder for name in taken}
        found = [f"modalities.{name}: no step takes it in" for name in self.modalities if name not in taken]
        return found + [
            f"encoders.{name}: encodes nothing that a step takes in" for name in self.encoders if name not in encoding
        ]


def load(path: str | os.PathLike[str], overrides: dict[str, str] | None = None) -> Scenario:
    """Read and check a scenario file, with `--set` overrides (path to YAML text). Raises ScenarioError."""
    document = load_document(path)
    for place, text in (overrides or {}).items():
        document = Scenario.overridden(document, place, text)
    return Scenario.of(document)


def _text(path: str, value: Any) -> str:
    """Return a value as YAML; a number of numpy is a number. Raises ScenarioError for what YAML cannot hold."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, default=_plain)
    except (TypeError, ValueError):
        rule = f"must be a number, a text, a list or a mapping; got {type(value).__name__}"
        raise ScenarioError([Problem(str(path), rule)], "the value to put in place") from None


def _plain(value: Any) -> Any:
    """Return the plain data of a spec, and of an array or a number of numpy."""
    if isinstance(value, Spec):
        return value.to_data()
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError


def _has(data: Any, steps: Sequence[Key]) -> bool:
    for step in steps:
        if not isinstance(data, dict) or step not in data:
            return False
        data = data[step]
    return True


def _migrated(document: Document) -> Document:
    """Refuse a scenario of another schema version, of which nothing else can be said."""
    version = document.data.get("coordsim")
    if isinstance(version, int) and not isinstance(version, bool) and version != SCHEMA_VERSION:
        remedy = f"no coordsim ever wrote it; write `coordsim: {SCHEMA_VERSION}`"
        if version > SCHEMA_VERSION:
            remedy = "it was written for a newer coordsim; try `pip install --upgrade coordsim`"
        message = f"must be {SCHEMA_VERSION}, the version of the schema that this coordsim reads; got {show(version)}: {remedy}"
        raise ScenarioError([document.problem(("coordsim",), message)], document.name)
    return document


def as_yaml(data: dict[str, Any]) -> str:
    """Return data as YAML, in the order it has."""
    from io import StringIO

    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.width = 120
    out = StringIO()
    yaml.dump(data, out)
    return out.getvalue()


def with_files(data: Any, change: Callable[[str, str], str], key: str = "") -> Any:
    """Return data with every text that may name a file changed, given its key."""
    if isinstance(data, dict):
        return {name: with_files(value, change, name) for name, value in data.items()}
    if isinstance(data, list):
        return [with_files(item, change, key) for item in data]
    return change(key, data) if isinstance(data, str) and key in ("file", "profile") else data


def _absolute(key: str, text: str) -> str:
    return os.path.abspath(text) if names_file(key, text) else text  # noqa: PTH100  # `resolve` would follow links


def _digest(key: str, text: str) -> str:
    """Return the SHA-256 of a file, or its name once it is gone."""
    try:
        with (find_profile(text) if key == "profile" else Path(text)).open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except (OSError, ProfileError):
        return text


def _distributions(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every distribution inside a spec, with its path."""
    if isinstance(value, AnyDraw):
        yield path, value
    elif isinstance(value, Spec):
        for name in type(value).model_fields:
            yield from _distributions(getattr(value, name), (*path, name))
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _distributions(item, (*path, str(name)))
    elif isinstance(value, tuple | list):
        for position, item in enumerate(value):
            yield from _distributions(item, (*path, str(position)))

"""A profile: the laws of a machine, with their sources; its file, and where those that ship are found.

A file is YAML, or JSON, which loads in milliseconds. What an older coordsim wrote is brought up to date on reading.
Leaves out: making one; calibration does that.
Checked: tests/test_profile.py, tests/data/bad_profiles.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from functools import cache, lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from ..engine.errors import Problem, ProfileError, did_you_mean, listed, show
from ..engine.nodes import names_file
from ..engine.partial import is_whole
from ..engine.source import Document
from ..engine.source import load as load_document
from ..engine.spec import (
    Bandwidth,
    FlopRate,
    Name,
    PositiveCount,
    PositiveSize,
    Spec,
    SpecProblem,
    SpecProblems,
    validate,
)
from .iteration import MeasuredIteration
from .law import Law, Timing
from .ops import HOST, OPS, law_name, split_name

__all__ = ["FORMAT", "Device", "Profile", "Same", "Source", "find", "machine", "merged", "names", "read"]

FORMAT = 1
_MIGRATIONS: dict[int, Callable[[dict[str, Any]], dict[str, Any]]] = {}  # from the version that is its key to the next


def _version(value: object) -> object:
    if isinstance(value, bool) or value != FORMAT:
        raise ValueError(f"must be {FORMAT}, the version of the format; got {show(value)}")
    return value


class Source(Spec):
    """Where laws come from.

    `quality`: `measured` by coordsim's probes, `imported` from measurements of others, `derived` from other laws by a stated
    rule, or `assumed`. `machine` tells device, host and driver as far as known, `date` when it was measured, or released, as exactly
    as that is told.
    """

    title: str
    quality: Literal["measured", "imported", "derived", "assumed"]
    machine: str
    date: str
    version: str = ""
    licence: str = ""
    link: str = ""
    note: str = ""


class Device(Spec):
    """Nominal facts of a device: what its data sheet says, for checks and limits; laws hold what was measured.

    `arithmetic` is the rate by type, `link` the bandwidth to its neighbours in one direction, `host_link` to the host.
    `multiprocessors` work through tiles side by side.
    """

    name: str
    memory: PositiveSize | None = None
    memory_bandwidth: Bandwidth | None = None
    arithmetic: dict[str, FlopRate] = {}
    link: Bandwidth | None = None
    host_link: Bandwidth | None = None
    network: Bandwidth | None = None
    per_node: PositiveCount | None = None
    multiprocessors: PositiveCount | None = None
    source: str = ""


class Profile(Spec):
    """Laws by name, such as `gemm[dtype=bf16]`, and the sources they cite. `environment` is the machine as found.

    `iterations` are what one engine's iterations took for one model, by name; a model of a scenario may name one.
    """

    coordsim_profile: Annotated[Literal[1], BeforeValidator(_version)] = Field(examples=[FORMAT])
    name: Name
    what: str = ""
    device: Device | None = None
    environment: dict[str, str] = {}
    sources: dict[Name, Source] = {}
    laws: dict[str, Law]
    iterations: dict[Name, MeasuredIteration] = {}

    @model_validator(mode="after")
    def _names(self) -> Self:
        found = list(problems(self))
        if found:
            raise SpecProblems(found)
        return self

    def law(self, op: str, **options: str) -> Law:
        """Return a law. Raises ProfileError, which names what there is."""
        return self.laws[self._name(op, options)]

    def has(self, op: str, **options: str) -> bool:
        """Whether there is a law of this operation with these options."""
        return law_name(op, options) in self.laws

    def timing(self, op: str, **options: str) -> Timing:
        """Return a law ready to be asked, and to note what lies outside of its range. Raises ProfileError."""
        name = self._name(op, options)
        return Timing(name, self.laws[name], OPS[op], options)

    def of(self, op: str) -> dict[str, Law]:
        """Return the laws of an operation, whatever their options."""
        return {name: law for name, law in self.laws.items() if name.partition("[")[0] == op}

    def _name(self, op: str, options: dict[str, str]) -> str:
        name = law_name(op, options)
        if name not in self.laws:
            near = listed(self.of(op)) or listed({one.partition("[")[0]: one for one in self.laws})
            raise ProfileError([Problem("", f"has no law `{name}`; it has {near or 'none'}")], f"profile {self.name}")
        return name

    def iteration(self, name: str) -> MeasuredIteration:
        """Return a measured iteration. Raises ProfileError, which names what there is."""
        if name not in self.iterations:
            told = did_you_mean(name, self.iterations) or f"; it has {listed(self.iterations) or 'none'}"
            raise ProfileError([Problem("", f"has no iteration `{name}`{told}")], f"profile {self.name}")
        return self.iterations[name]

    def source_of(self, law: Law) -> Source:
        """Return the source that a law cites."""
        return self.sources[law.source]

    def to_data(self) -> dict[str, Any]:
        """Return what a file holds; what is not said has its default."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_defaults=True)

    def to_json(self) -> str:
        """Return the file: a line for each part of a law, so that two versions can be compared."""
        return json.dumps(self.to_data(), indent=1, ensure_ascii=False) + "\n"

    def to_yaml(self) -> str:
        """Return the file as YAML."""
        from io import StringIO

        from ruamel.yaml import YAML

        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = False
        yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
        yaml.width = 2**31 - 1  # a table stays on its line
        out = StringIO()
        yaml.dump(self.to_data(), out)
        return out.getvalue()


def problems(profile: Profile) -> Iterator[SpecProblem]:
    """Yield the laws of unknown operations, options or sizes, and sources that nobody gave."""
    for name, law in profile.laws.items():
        path = ("laws", name)
        try:
            op, options = split_name(name)
        except ValueError as error:
            yield SpecProblem(path, str(error), at_key=True)
            continue
        if op not in OPS:
            yield SpecProblem(path, f"no operation is called `{op}`{did_you_mean(op, OPS)}", at_key=True)
            continue
        for option in options:
            if option not in OPS[op].options:
                remedy = did_you_mean(option, OPS[op].options) or f"; it has {listed(OPS[op].options) or 'none'}"
                yield SpecProblem(path, f"`{op}` has no option `{option}`{remedy}", at_key=True)
        try:
            if is_whole(law):
                law.compile(OPS[op], options)
        except SpecProblem as problem:
            yield SpecProblem((*path, *problem.path), problem.message)
        except ValueError as error:
            yield SpecProblem((*path, "form"), str(error))
        if law.source not in profile.sources:
            remedy = did_you_mean(law.source, profile.sources) or f"; it has {listed(profile.sources) or 'none'}"
            yield SpecProblem((*path, "source"), f"`sources` has no `{law.source}`{remedy}")
    yield from _iteration_problems(profile)


def _iteration_problems(profile: Profile) -> Iterator[SpecProblem]:
    for name, iteration in profile.iterations.items():
        if is_whole(iteration) and iteration.source not in profile.sources:
            remedy = did_you_mean(iteration.source, profile.sources) or f"; it has {listed(profile.sources) or 'none'}"
            yield SpecProblem(("iterations", name, "source"), f"`sources` has no `{iteration.source}`{remedy}")


def folder() -> Path:
    """Return the folder of the profiles that ship."""
    return Path(str(files(__name__.partition(".")[0]) / "calibration" / "profiles"))


def names() -> list[str]:
    """Return the profiles that ship, by name."""
    return sorted(path.stem for path in folder().glob("*.json"))


def find(text: str) -> Path:
    """Return the file that `text` means: a path, or a profile that ships. Raises ProfileError."""
    if names_file("profile", text):
        return Path(text)
    known = names()
    if text not in known:
        remedy = did_you_mean(text, known) or f"; those that ship are {listed(known)}; a file ends in .yaml or .json"
        raise ProfileError([Problem("", f"no profile that ships has this name{remedy}")], text)
    return folder() / f"{text}.json"


def read(text: str) -> Profile:
    """Return the profile that `text` means, checked. Raises ProfileError with every mistake and its place."""
    path = find(text)
    try:
        stamp = path.stat()
    except OSError:
        return _read(path, 0, 0)
    return _read(path, stamp.st_mtime_ns, stamp.st_size)


@cache
def _read(path: Path, _changed: int, _size: int) -> Profile:
    """Return the profile in a file; the same file is checked once in a process."""
    if path.suffix == ".json":
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(data, dict) and data.get("coordsim_profile") == FORMAT:
                return Profile.model_validate(data)
        except (OSError, ValueError):  # a ValidationError is one; the slow way finds where the mistake stands
            pass
    return of(load_document(path, ProfileError))


def of(document: Document) -> Profile:
    """Check a document. Raises ProfileError with every mistake."""
    version = document.data.get("coordsim_profile")
    if type(version) is int and version != FORMAT:
        if version > FORMAT:
            remedy = "it was written by a newer coordsim; try `pip install --upgrade coordsim`"
            rule = (
                f"must be {FORMAT} at most, the version of the format that this coordsim reads; got {version}: {remedy}"
            )
            raise ProfileError([document.problem(("coordsim_profile",), rule)], document.name)
        if version in _MIGRATIONS:
            document = Document.from_data(migrated(document.data), document.name, ProfileError)
    return validate(Profile, document, ProfileError, across=problems)


def migrated(data: dict[str, Any]) -> dict[str, Any]:
    """Return the data of an older version as the current one has it."""
    while (version := data["coordsim_profile"]) in _MIGRATIONS:
        data = {**_MIGRATIONS[version](data), "coordsim_profile": version + 1}
    return data


class Same:
    """A profile as a key of caches: equal to itself alone, and kept alive by what is cached."""

    __slots__ = ("profile",)

    def __init__(self, profile: Profile) -> None:
        self.profile = profile

    def __eq__(self, other: object) -> bool:
        """Whether it is of the very same profile."""
        return isinstance(other, Same) and self.profile is other.profile

    def __hash__(self) -> int:
        """Return the hash of its identity."""
        return id(self.profile)


def machine(names: Iterable[str]) -> Profile:
    """Read profiles and return them as one (`merged`): the same object for the same unchanged files."""
    return _machine(*(Same(read(name)) for name in names))


@lru_cache(maxsize=16)
def _machine(*profiles: Same) -> Profile:
    return merged(one.profile for one in profiles)


def merged(profiles: Iterable[Profile]) -> Profile:
    """Return one profile with the laws and iterations of all; where two have one, the earlier profile's holds.

    Laws of a device come from the first profile that has any: a GPU's gaps are not filled with the kernels of a CPU. Later
    ones add laws of the host.
    """
    given = list(profiles)
    if len(given) == 1:
        return given[0]
    laws: dict[str, Law] = {}
    iterations: dict[str, MeasuredIteration] = {}
    sources: dict[str, Source] = {}
    device: Profile | None = None
    for number, profile in enumerate(given):
        own = {name: name if name not in sources else f"{name}.{number}" for name in profile.sources}
        sources |= {own[name]: source for name, source in profile.sources.items()}
        of_device = {name for name in profile.laws if name.partition("[")[0] not in HOST}
        if device is None and (of_device or profile.device):
            device = profile
        for name, law in profile.laws.items():
            if name not in of_device or profile is device:
                laws.setdefault(name, law.model_copy(update={"source": own[law.source]}))
        for name, iteration in profile.iterations.items():
            iterations.setdefault(name, iteration.model_copy(update={"source": own[iteration.source]}))
    name = "-".join(profile.name for profile in given)
    facts = device.device if device is not None else None
    found = {"name": name, "device": facts, "sources": sources, "laws": laws, "iterations": iterations}
    return given[0].model_copy(update=found)

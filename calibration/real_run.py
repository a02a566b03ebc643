"""The folder of a real run of a server: what it was, and what became of each request.

`meta.json` tells model, engine and options; `requests.jsonl` a request a line, with `input_toks`, `output_toks` and the engine's
stamps `queued_ts`, `first_token_ts`, `last_token_ts` (s, of one clock); `config.json` the devices and links. The requests' tokens are
in a file of their own, a request a line with `input_tok_ids`.

Leaves out: `arrival_time`, which is of another clock.
Checked: tests/test_replay.py.
Source: the layout is that of github.com/casys-kaist/LLMServingSim (bench; MIT).
"""

import json
import math
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..models.serving.kv_cache import Path as Content
from ..sim.engine.errors import Problem, ProfileError, listed, show
from .imports.tables import refused, text_of
from .imports.vllm_run import mapping

__all__ = ["Row", "Run", "contents", "read_run", "workload_of"]

_COUNTS = ("input_toks", "output_toks")
_STAMPS = ("queued_ts", "first_token_ts", "last_token_ts")


@dataclass(frozen=True, slots=True)
class Row:
    """A request: its number in the workload, tokens, and stamps in seconds since the first was queued."""

    number: int
    prompt: int
    output: int
    queued: float
    first: float
    last: float


@dataclass(frozen=True, slots=True)
class Run:
    """A run: `options` of the engine, the `instances` of the device file, and the rows in the order they were queued."""

    folder: Path
    meta: Mapping[str, Any]
    options: Mapping[str, Any]
    cluster: Mapping[str, Any]
    rows: list[Row]
    notes: list[str] = field(default_factory=list)

    @property
    def model(self) -> str:
        """The model, as the run names it."""
        return str(self.meta.get("model") or self.options.get("model", ""))

    @property
    def instance(self) -> Mapping[str, Any]:
        """The first instance of the device file; empty without one."""
        nodes = self.cluster.get("nodes") or [{}]
        instances = nodes[0].get("instances") or [{}]
        first: Mapping[str, Any] = instances[0]
        return first

    @property
    def hardware(self) -> str:
        """The device's name, as the device file has it; '' where none tells."""
        return str(self.instance.get("hardware", ""))

    @property
    def tensor_parallel(self) -> int:
        """Devices that share each layer."""
        return int(self.options.get("tensor_parallel_size") or self.instance.get("tp_size") or 1)

    @property
    def data_parallel(self) -> int:
        """Engines side by side, each with a part of the requests."""
        return int(self.options.get("data_parallel_size") or 1)

    @property
    def expert_parallel(self) -> bool:
        """Whether experts are spread over all devices, each whole."""
        return bool(self.options.get("enable_expert_parallel"))


def read_run(folder: Path) -> Run:
    """Return the run in a folder. Raises ProfileError with file, line and remedy."""
    where = folder if (folder / "requests.jsonl").is_file() else folder / "vllm"
    if not (where / "requests.jsonl").is_file():
        raise refused(
            folder,
            "must be the folder of a run, with meta.json, requests.jsonl and config.json; it has no requests.jsonl",
        )
    if not (where / "meta.json").is_file():
        raise refused(where / "meta.json", "is missing: it tells the model, the engine and its options (engine_kwargs)")
    meta = mapping(where / "meta.json")
    options = meta.get("engine_kwargs")
    if not isinstance(options, Mapping):
        raise refused(where / "meta.json", "must tell the engine's options in `engine_kwargs`")
    notes: list[str] = []
    files = [path for path in (where / "config.json", where.parent / "config.json") if path.is_file()]
    cluster = mapping(files[0]) if files else {}
    if not files:
        notes.append("no config.json: memory and links must come from meta.json or --set")
    run = Run(where, meta, options, cluster, _rows(where / "requests.jsonl", notes), notes)
    _understood(run)
    return run


def _understood(run: Run) -> None:
    """Raise ProfileError for what the simulated server does not do."""
    problems = []
    if int(run.options.get("pipeline_parallel_size") or 1) > 1:
        problems.append("pipeline parallelism is not simulated")
    if run.options.get("speculative_config"):
        problems.append("speculative decoding is not simulated")
    if run.instance.get("pd_type"):
        problems.append("disaggregated prefill and decode is not replayed")
    if problems:
        raise ProfileError([Problem("", text, str(run.folder / "meta.json")) for text in problems], str(run.folder))


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for line, text in enumerate(text_of(path).splitlines(), 1):
        if not text.strip():
            continue
        try:
            data = json.loads(text)
        except ValueError as error:
            raise refused(path, f"must be JSON, a request a line: {error}", line) from None
        if not isinstance(data, dict):
            raise refused(path, f"must be a mapping; got {show(data)}", line)
        yield line, data


def _rows(path: Path, notes: list[str]) -> list[Row]:
    rows: list[Row] = []
    problems: list[Problem] = []
    unfinished = 0
    for line, data in _lines(path):
        missing = [name for name in (*_COUNTS, *_STAMPS) if name not in data]
        if missing:
            problems.append(Problem("", f"must have {listed(missing)}; it has {listed(data)}", str(path), line))
            continue
        if any(data[name] is None for name in _STAMPS):
            unfinished += 1
            continue
        problems += _wrong(data, path, line)
        rows.append(_row(data, len(rows)))
    if problems:
        raise ProfileError(problems, str(path))
    if not rows:
        raise refused(path, "must hold requests that ended; it has none")
    if unfinished:
        notes.append(f"{unfinished} requests without all stamps are left out, and their load with them")
    rows.sort(key=lambda row: (row.queued, row.number))
    start = rows[0].queued
    return [
        Row(one.number, one.prompt, one.output, one.queued - start, one.first - start, one.last - start) for one in rows
    ]


def _row(data: Mapping[str, Any], place: int) -> Row:
    digits = re.search(r"(\d+)$", str(data.get("request_id", "")))
    number = int(digits.group(1)) if digits else place
    stamps = (float(data[name]) if isinstance(data[name], int | float) else math.nan for name in _STAMPS)
    prompt, output = (data[name] if type(data[name]) is int else 0 for name in _COUNTS)
    return Row(number, prompt, output, *stamps)


def _wrong(data: Mapping[str, Any], path: Path, line: int) -> Iterator[Problem]:
    for name in _COUNTS:
        if type(data[name]) is not int or data[name] < 1:
            yield Problem(name, f"must be a whole number >= 1; got {show(data[name])}", str(path), line)
    if any(type(data[name]) not in (int, float) for name in _STAMPS):
        yield Problem("", f"{listed(_STAMPS)} must be seconds", str(path), line)
    elif not data["queued_ts"] <= data["first_token_ts"] <= data["last_token_ts"]:
        yield Problem("", "its stamps must be in order: queued, first token, last token, of one clock", str(path), line)


def workload_of(run: Run, given: Path | None) -> list[tuple[int, ...]] | None:
    """Return the tokens of each request of the workload, by number; None where no file is at hand. Raises ProfileError."""
    path = given or _found(run)
    if path is None:
        return None
    tokens = []
    for line, data in _lines(path):
        ids = data.get("input_tok_ids")
        if not isinstance(ids, list):
            raise refused(path, f"must have a request's tokens in `input_tok_ids`; it has {listed(data)}", line)
        tokens.append(tuple(ids))
    for row in run.rows:
        if row.number >= len(tokens) or len(tokens[row.number]) != row.prompt:
            got = f"has {len(tokens[row.number]):,}" if row.number < len(tokens) else "is not there"
            rule = f"is not the run's workload: its request {row.number} {got}, and {row.prompt:,} tokens came in"
            raise refused(path, f"{rule}; give the file that meta.json names as dataset_path, or leave it out")
    run.notes.append(f"tokens of the requests: {path.name}")
    return tokens


def _found(run: Run) -> Path | None:
    """Return the workload that `meta.json` names, in a folder beside or above the run's."""
    name = Path(str(run.meta.get("dataset_path", ""))).name
    if not name:
        return None
    for above in [run.folder, *list(run.folder.resolve().parents)[:4]]:
        for folder in (above, above / "workload", above / "workloads"):
            for path in (folder / name, folder / f"{name}.gz"):
                if path.is_file():
                    return path
    return None


def contents(tokens: Sequence[tuple[int, ...]], run: Run, block: int) -> list[Content]:
    """Return what names the content of each row's full blocks: a chain, so that equal names mean equal prefixes.

    Of a prompt the last token is always computed: without it there is no next one. A prompt of whole blocks therefore shares
    one less.
    """
    names: dict[tuple[int, tuple[int, ...]], int] = {}
    paths: list[Content] = []
    for row in run.rows:
        before = 0
        path: list[tuple[Hashable, int]] = []
        ids = tokens[row.number]
        for start in range(0, len(ids) - block + 1, block):
            before = names.setdefault((before, ids[start : start + block]), len(names) + 1)
            path.append((before, 1))
        paths.append(tuple(path))
    return paths

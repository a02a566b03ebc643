"""Merging a patch into a base, as `extends:` does.

Mappings merge field by field; null deletes; lists, scalars and one-of mappings are replaced whole. A patch that says
`kind` replaces what it patches; one that leaves `kind` out changes the fields of what is there.
Each value keeps the place where it was written.
Leaves out: finding and reading files (`source`), and any knowledge of the specs, but for the runtime's preset.
Checked: tests/test_extends.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from .errors import Problem, did_you_mean
from .nodes import Node
from .paths import Key, dotted

__all__ = ["ONE_OF_KEYS", "as_patch", "merge", "with_preset"]

# A mapping with one of these as its only key is a choice: another choice replaces it, it does not join it.
ONE_OF_KEYS = frozenset(
    [
        # distributions
        "constant", "exponential", "lognormal", "gamma", "weibull", "pareto", "hyperexponential", "empirical",
        "mixture", "shifted", "truncated", "uniform", "geometric",
        # arrivals
        "poisson", "deterministic", "mmpp", "rates", "closed", "trace",
    ]
)  # fmt: skip


def merge(base: Node, patch: Node, problems: list[Problem], path: tuple[Key, ...] = ()) -> Node:
    """Return `base` with `patch` applied; a null that deletes nothing is added to `problems`."""
    if path == ("runtime",) and patch.mapping is not None:
        base = _preset_as_mapping(base, patch)
    if base.mapping is None or patch.mapping is None or _is_another_choice(base, patch):
        _refuse_nulls(patch, problems, path)
        return patch
    merged = dict(base.mapping)
    for name, value in patch.mapping.items():
        below = merged.get(name)
        if value.is_null:
            if merged.pop(name, None) is None:
                _nothing_to_delete(value, problems, (*path, name), base)
        elif below is None:
            _refuse_nulls(value, problems, (*path, name))
            merged[name] = value
        else:
            merged[name] = merge(below, value, problems, (*path, name))
    return Node(None, base.at, key=patch.key or base.key, mapping=merged)


def _is_another_choice(base: Node, patch: Node) -> bool:
    """Whether `patch` names a kind, so that nothing of `base` may remain."""
    if "kind" in patch.fields:
        return True
    ours, theirs = set(base.fields), set(patch.fields)
    return len(ours) == len(theirs) == 1 and ours != theirs and ours | theirs <= ONE_OF_KEYS


def _preset_as_mapping(base: Node, patch: Node) -> Node:
    """Return a bare preset as a mapping: `runtime: ideal`, patched with a policy, keeps its other policies."""
    if not isinstance(base.value, str) or "preset" in patch.fields:
        return base
    return Node(None, base.at, key=base.key, mapping={"preset": Node(base.value, base.at, key=base.key)})


def with_preset(root: Node, path: Sequence[Key]) -> Node:
    """Return the tree with a bare runtime preset as a mapping, where `path` is a policy of the runtime."""
    runtime = root.fields.get("runtime")
    if runtime is None or len(path) < 2 or path[0] != "runtime":
        return root
    return root.replaced("runtime", _preset_as_mapping(runtime, Node(None, runtime.at, mapping={})))


def as_patch(node: Node) -> Node:
    """Return a base as a patch of the base before it: its own nulls mean 'not given' and delete nothing."""
    if node.mapping is None:
        return node
    kept = {name: as_patch(value) for name, value in node.mapping.items() if not value.is_null}
    return Node(None, node.at, key=node.key, mapping=kept)


def _refuse_nulls(node: Node, problems: list[Problem], path: tuple[Key, ...]) -> None:
    """Report every null in a mapping that patches nothing."""
    for name, value in node.fields.items():
        if value.is_null:
            _nothing_to_delete(value, problems, (*path, name), None)
        else:
            _refuse_nulls(value, problems, (*path, name))


def _nothing_to_delete(value: Node, problems: list[Problem], path: tuple[Key, ...], base: Node | None) -> None:
    """Add the mistake of a null that deletes nothing."""
    at = value.place(key=True)
    near = did_you_mean(path[-1], base.fields) if base is not None else ""
    problems.append(Problem(dotted(path), f"nothing to delete{near}", at.file, at.line, at.column, at.source))

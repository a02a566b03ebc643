"""Results of analyses as plain data for JSON and back, by the types that their fields declare, exactly.

A dataclass is a mapping of its fields (an `Estimate`, of which there are thousands, a list), a tuple a list. nan, infinity, arrays and
mappings whose keys are no texts are mappings with the key `~`.

Leaves out: classes that are no dataclasses; several dataclasses in one union whose fields have the same names.
Checked: tests/test_stored.py, over all kinds of answers.
"""

from __future__ import annotations

import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from ..analysis.statistics import Estimate

__all__ = ["DamagedError", "OtherFieldsError", "decode", "encode"]

TAG = "~"
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}
_ESTIMATE = tuple(one.name for one in fields(Estimate))
_DTYPE = re.compile(r"bool|u?int(8|16|32|64)|float(16|32|64)|[<>|=]?U\d+")
_LEAVES = {"bool": bool, "int": int, "float": float, "U": str}
_LONGEST = 60  # characters of what an error repeats
_SCALARS: dict[Any, tuple[type, ...]] = {
    bool: (bool,), int: (int,), float: (float, int), str: (str,), type(None): (type(None),),
}  # fmt: skip


class DamagedError(ValueError):
    """Data that is not what its type says: where, and what is wrong."""


class OtherFieldsError(DamagedError):
    """Data of an object that has other fields than its type: another version wrote it."""


def encode(value: Any) -> Any:
    """Return plain data for JSON."""
    if isinstance(value, Estimate):
        return [encode(getattr(value, name)) for name in _ESTIMATE]
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: encode(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value) and TAG not in value:
            return {str(key): encode(one) for key, one in value.items()}
        return {TAG: "map", "items": [[encode(key), encode(one)] for key, one in value.items()]}
    if isinstance(value, list | tuple):
        return [encode(one) for one in value]
    return _scalar(value)


def _scalar(value: Any) -> Any:
    if isinstance(value, str):
        return str(value)  # an enumeration of texts is the text
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else {TAG: repr(float(value))}
    if hasattr(value, "dtype"):
        if getattr(value, "shape", ()) == ():
            return _scalar(value.item())
        return {TAG: "array", "dtype": str(value.dtype), "values": encode(value.tolist())}
    raise TypeError(f"cannot be written: {type(value).__name__}")


def decode(hint: Any, data: Any, place: str = "") -> Any:
    """Return what a type says that plain data is. Raises DamagedError."""
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _one_of(get_args(hint), data, place)
    if isinstance(data, dict) and TAG in data:
        data = _tagged(data, place)
        if not isinstance(data, float | Mapping):
            return _if(_takes_array(hint), data, place, getattr(hint, "__name__", "value of another type"))
    if hint is Any or isinstance(hint, TypeVar) or hint is object:
        return _of_any(data, place)
    if is_dataclass(origin or hint):
        return _object(origin or hint, data, place)
    if origin is Literal:
        return _if(data in get_args(hint), data, place, f"one of {get_args(hint)}")
    if hint in _SCALARS:
        fits = isinstance(data, _SCALARS[hint]) and (hint is bool or not isinstance(data, bool))
        return _if(fits, data, place, hint.__name__)
    return _container(origin or hint, get_args(hint), data, place)


def _takes_array(hint: Any) -> bool:
    kind = get_origin(hint) or hint
    return hint not in _SCALARS and kind is not Literal and not is_dataclass(kind)


def _of_any(data: Any, place: str) -> Any:
    """Return data of no declared type: lists and mappings stay so, and what is tagged in them is read."""
    if isinstance(data, list):
        return [decode(Any, one, f"{place}[{at}]") for at, one in enumerate(data)]
    if isinstance(data, dict):
        return {name: decode(Any, one, f"{place}.{name}") for name, one in data.items()}
    return data


def _container(kind: Any, inner: tuple[Any, ...], data: Any, place: str) -> Any:
    """Return a tuple, a list or a mapping."""
    if kind is tuple:
        _if(isinstance(data, list | tuple), data, place, "list")
        if len(inner) == 2 and inner[1] is Ellipsis:
            return tuple(decode(inner[0], one, f"{place}[{at}]") for at, one in enumerate(data))
        _if(len(data) == len(inner), data, place, f"list of {len(inner)}")
        return tuple(decode(one, data[at], f"{place}[{at}]") for at, one in enumerate(inner))
    if isinstance(kind, type) and issubclass(kind, Mapping):
        _if(isinstance(data, dict), data, place, "mapping")
        key, value = inner or (Any, Any)
        return {decode(key, name, place): decode(value, one, f"{place}.{name}") for name, one in data.items()}
    if isinstance(kind, type) and issubclass(kind, Sequence):
        _if(isinstance(data, list), data, place, "list")
        return [decode(inner[0] if inner else Any, one, f"{place}[{at}]") for at, one in enumerate(data)]
    if getattr(kind, "__name__", "") == "ndarray":
        _if(False, data, place, "mapping with `dtype` and `values`")
    raise TypeError(f"{place}: no rule for {kind}")


def _tagged(data: Mapping[str, Any], place: str) -> Any:
    """Return what JSON could not say."""
    tag = data[TAG]
    if isinstance(tag, str) and tag in _NOT_FINITE:
        _if(len(data) == 1, data, place, "number")
        return _NOT_FINITE[tag]
    if tag == "map":
        _if(set(data) == {TAG, "items"} and isinstance(data["items"], list), data, place, "mapping with `items`")
        for one in data["items"]:
            _if(isinstance(one, list) and len(one) == 2, one, place, "key with its value")
        return {_hashable(decode(Any, key, place), place): one for key, one in data["items"]}
    if tag == "array":
        _if(set(data) == {TAG, "dtype", "values"}, data, place, "mapping with `dtype` and `values`")
        return _array(data["dtype"], data["values"], place)
    raise DamagedError(f"`{place}` has the unknown tag `{_short(tag)}`")


def _array(dtype: Any, values: Any, place: str) -> Any:
    """Return an array of numbers or of texts."""
    import numpy as np

    _if(isinstance(dtype, str) and _DTYPE.fullmatch(dtype) is not None, dtype, place, "dtype of numbers or of texts")
    _if(isinstance(values, list), values, place, "list of numbers")
    leaf = next(one for name, one in _LEAVES.items() if name in dtype)
    try:
        return np.asarray(_leaves(values, leaf, place), dtype=dtype)
    except (ValueError, OverflowError) as error:
        if isinstance(error, DamagedError):
            raise
        raise DamagedError(f"`{place}` is no array of {dtype}: {error}") from error


def _leaves(values: Any, leaf: Any, place: str) -> Any:
    """Return what an array holds, all of one type."""
    if isinstance(values, list):
        return [_leaves(one, leaf, place) for one in values]
    if type(values) is leaf:
        return values
    return decode(leaf, values, place)


def _hashable(key: Any, place: str) -> Any:
    if isinstance(key, list):
        return tuple(_hashable(one, place) for one in key)
    return _if(key is None or isinstance(key, str | int | float), key, place, "text or a number, or a list of them")


def _one_of(options: tuple[Any, ...], data: Any, place: str) -> Any:
    """Return what fits one of several types: the one whose fields data has, or else the first that takes it."""
    if data is None and type(None) in options:
        return None
    options = tuple(one for one in options if one is not type(None))
    if isinstance(data, dict):
        options = tuple(sorted(options, key=lambda one: not _has_fields(one, data)))
    if isinstance(data, float) and float in options:
        return data
    wrong = DamagedError(f"`{place}` fits nothing that may be there")
    for one in options:
        try:
            return decode(one, data, place)
        except DamagedError as error:
            wrong = wrong if isinstance(wrong, OtherFieldsError) else error
    raise wrong


def _has_fields(hint: Any, data: Mapping[str, Any]) -> bool:
    kind = get_origin(hint) or hint
    return is_dataclass(kind) and {one.name for one in fields(kind)} == set(data)


@cache
def _hints(kind: Any) -> dict[str, tuple[Any, Field[Any]]]:
    told = typing.get_type_hints(kind)
    return {one.name: (told[one.name], one) for one in fields(kind)}


def _object(kind: Any, data: Any, place: str) -> Any:
    """Return a dataclass; what is not there has its default."""
    if kind is Estimate and isinstance(data, list):
        if len(data) > len(_ESTIMATE):
            raise OtherFieldsError(f"`{place}` must be a list of {len(_ESTIMATE)}; got {len(data)}")
        data = dict(zip(_ESTIMATE, data, strict=False))  # what is missing is named below
    _if(isinstance(data, dict), data, place, "mapping")
    known = _hints(kind)
    for name in data:
        if name not in known:
            raise OtherFieldsError(f"`{place}.{name}` is not known")
    given = {}
    for name, (hint, one) in known.items():
        if name in data:
            given[name] = decode(hint, data[name], f"{place}.{name}")
        elif one.default is MISSING and one.default_factory is MISSING:
            raise OtherFieldsError(f"`{place}.{name}` is missing")
    try:
        return kind(**given)
    except (ValueError, TypeError, ArithmeticError) as error:  # what a class asks of its fields together
        raise DamagedError(f"`{place}` cannot be: {error}") from error


def _if(holds: bool, data: Any, place: str, wanted: str) -> Any:
    if not holds:
        raise DamagedError(f"`{place}` must be a {wanted}; got {_short(repr(data))}")
    return data


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"

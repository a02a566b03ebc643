"""Probes of what the host does for a model, without torch: tokens from text, columns and sums from tables.

The tokenizer is a regular expression that splits text into words, then a dictionary of tokens. The tables hold a key, a
count and a value per row; they are decoded from bytes in memory, with as many threads as Arrow takes.

Leaves out: byte-pair merges, which a tokenizer does for words it does not know; discs.
Checked: tests/test_kernel_probes.py.
"""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from typing import Any

import numpy as np

from ..probe import Call, Case, Found, Probe
from .common import Place, missing

__all__ = ["found", "tokenize"]

WORDS = re.compile(r" ?[a-z]+| ?[0-9]{1,3}|[^\sa-z0-9]+|\s+")
VOCABULARY = 4096
TEXT_BYTES = (256, 1024, 5000, 16_384, 65_536, 200_000)
FORMATS = ("arrow", "parquet", "csv")
ROWS = (1000, 5000, 20_000, 60_000, 200_000)
GROUPS = 100
GROUPED_ROWS = (1000, 10_000, 50_000, 200_000, 1_000_000)
COPIES = 4  # of a text or a table, taken by turns


def found(_place: Place) -> Found:
    """Return the probes of the host; those of tables are missing where pyarrow is."""
    text = Probe(
        "text.tokenize", {"how": "regex"},
        tuple(Case("text.tokenize", {"how": "regex"}, {"bytes": size}) for size in TEXT_BYTES), _text,
    )  # fmt: skip
    try:
        import pyarrow as pa  # noqa: F401  whether it is there
    except ImportError:
        why = "tables need pyarrow"
        gone = [missing("table.decode", {"format": name}, why) for name in FORMATS] + [
            missing("table.group_by", {}, why)
        ]
        return Found((text,), tuple(gone))
    decodes = (
        Probe(
            "table.decode", {"format": name}, tuple(_decode_case(name, rows) for rows in ROWS), partial(_decode, name)
        )
        for name in FORMATS
    )
    grouped = tuple(Case("table.group_by", {}, {"rows": rows}) for rows in GROUPED_ROWS)
    return Found((text, *decodes, Probe("table.group_by", {}, grouped, _grouped)))


@lru_cache(maxsize=1)
def _vocabulary() -> dict[str, int]:
    """Return words of 2 to 9 letters, with the blank before them, and their tokens: of a fixed seed."""
    random = np.random.default_rng(0)
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    words = {" " + "".join(random.choice(letters[:20], random.integers(2, 10))) for _ in range(VOCABULARY)}
    return {word: token for token, word in enumerate(sorted(words))}


def tokenize(text: str, vocabulary: dict[str, int]) -> list[int]:
    """Return the tokens of the words of `text`; -1 stands for a word that is not in the vocabulary."""
    return [vocabulary.get(word, -1) for word in WORDS.findall(text)]


@contextmanager
def _text(case: Case) -> Iterator[Call]:
    vocabulary, size = _vocabulary(), int(case.sizes["bytes"])
    words, random = list(vocabulary), np.random.default_rng(1)
    chosen = random.integers(0, len(words), (COPIES, size // 3 + 1))  # of at least three bytes each
    texts = ["".join(words[word] for word in row)[:size] for row in chosen]

    def call(turn: int) -> None:
        tokenize(texts[turn % COPIES], vocabulary)

    yield call


def _table(rows: int) -> Any:
    """Return a table of a key out of 100, a count and a value per row, of a fixed seed."""
    import pyarrow as pa

    random = np.random.default_rng(rows)
    return pa.table(
        {
            "key": random.integers(0, GROUPS, rows),
            "count": random.integers(0, 1_000_000, rows),
            "value": random.normal(size=rows).round(4),
        }
    )


@lru_cache(maxsize=16)
def _stored(name: str, rows: int) -> bytes:
    """Return a table in its stored form: Arrow's stream, Parquet with its defaults, or CSV."""
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    table, sink = _table(rows), io.BytesIO()
    if name == "arrow":
        with pa.ipc.new_stream(sink, table.schema) as stream:
            stream.write_table(table)
    elif name == "parquet":
        pyarrow.parquet.write_table(table, sink)
    else:
        pyarrow.csv.write_csv(table, sink)
    return sink.getvalue()


def _decode_case(name: str, rows: int) -> Case:
    """Return the case of a table of so many rows; its size is that of the stored form."""
    return Case("table.decode", {"format": name}, {"bytes": len(_stored(name, rows))})


def _reader(name: str) -> Callable[[Any], Any]:
    import pyarrow as pa
    import pyarrow.csv
    import pyarrow.parquet

    if name == "arrow":
        return lambda stored: pa.ipc.open_stream(stored).read_all()
    read = pyarrow.parquet.read_table if name == "parquet" else pyarrow.csv.read_csv
    return lambda stored: read(pa.BufferReader(stored))


@contextmanager
def _decode(name: str, case: Case) -> Iterator[Call]:
    import pyarrow as pa

    rows = next(rows for rows in ROWS if len(_stored(name, rows)) == case.sizes["bytes"])
    stored = [pa.py_buffer(bytes(bytearray(_stored(name, rows)))) for _ in range(COPIES)]
    read = _reader(name)

    def call(turn: int) -> None:
        read(stored[turn % COPIES])

    yield call


@contextmanager
def _grouped(case: Case) -> Iterator[Call]:
    rows = int(case.sizes["rows"])
    tables = [_table(rows) for _ in range(COPIES if rows <= ROWS[-1] else 1)]  # a large one exceeds caches by itself
    count = len(tables)

    def call(turn: int) -> None:
        tables[turn % count].group_by("key").aggregate([("value", "sum")])

    yield call

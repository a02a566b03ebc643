"""Files of arrivals: every format and every mistake, row by row."""

import gzip
from pathlib import Path
from typing import Any

import pytest

from coordsim.models.trace_file import TraceColumns, TraceTable, read_trace_file
from coordsim.sim.engine.errors import ScenarioError

DATA = Path(__file__).parent / "data" / "workloads"


def rows(table: TraceTable) -> list[Any]:
    """Return the columns of a table as lists."""
    return [None if column is None else column.tolist() for column in (table.times, table.request, table.output)]


AZURE = [[0.0, 0.0520001, 0.0520001, 60.02004], [4808, 3180, 110, 7433], [10, 8, 27, 14]]
MOONCAKE = [[0.0, 1.5, 3.001], [6758, 7322, 7236], [500, 490, 794]]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("azure.csv", AZURE),
        ("azure.csv.gz", AZURE),
        ("mooncake.jsonl", MOONCAKE),
        ("mooncake_gz", MOONCAKE),
        ("semicolon.csv", [[0.0, 0.75, 2.5], [10, 20, 30], [1, 2, 3]]),
        ("zones.jsonl", [[0.0, 0.75, 1.500000001], [5, 7, 0], None]),
    ],
)
def test_formats_are_told_by_content(name: str, expected: list[Any]) -> None:
    """Dates of 7 digits across midnight, zones, milliseconds, byte order mark, blank lines, gzip under any name."""
    assert rows(read_trace_file(DATA / name)) == expected


def test_columns_units_order_and_limits_can_be_stated() -> None:
    """What is stated goes before what would be recognised."""
    spans = read_trace_file(DATA / "spans.tsv", TraceColumns(timestamp="start", output="end"), unit="ms")
    assert rows(spans) == [[0.0, 0.01], [100, 200], [11, 25]]
    assert rows(read_trace_file(DATA / "mooncake.jsonl", TraceColumns(tokens=False), unit="us", limit=2)) == [
        [0.0, 0.0015],
        None,
        None,
    ]
    assert rows(read_trace_file(DATA / "unsorted.csv", sort=True))[0] == [0.0, 0.0, 1.0, 2.0]
    with pytest.raises(ScenarioError, match=r"3  is 2 s earlier than the row before; state `sort: true`"):
        read_trace_file(DATA / "unsorted.csv")


def test_sorting_keeps_the_rows_together(tmp_path: Path) -> None:
    """Token counts move with their times, and rows of one time stay in the file's order."""
    file = tmp_path / "rows.csv"
    file.write_text("t,request,output\n9,1,10\n2,2,20\n9,3,30\n4,4,40\n")
    assert rows(read_trace_file(file, sort=True)) == [[0.0, 2.0, 7.0, 7.0], [2, 4, 1, 3], [20, 40, 10, 30]]


def test_blocks_are_read_if_asked_for(tmp_path: Path) -> None:
    """Lists in JSON lines, texts with spaces in CSV; they move with their rows, and are as large as stated."""
    file = tmp_path / "rows.csv"
    file.write_text("t,request,hash_ids\n9,1024,7 8\n2,1025,7 8  9\n4,0,\n")
    assert read_trace_file(file, sort=True).blocks is None
    assert read_trace_file(file, TraceColumns(blocks="hash_ids"), sort=True).blocks == [(7, 8, 9), (), (7, 8)]
    file.write_text('{"t": 0, "request": 40, "ids": [1, 18446744073709551616, 3]}\n{"t": 1, "request": 0, "ids": []}\n')
    columns = TraceColumns(blocks="ids", block=16)
    assert read_trace_file(file, columns).blocks == [(1, 2**64, 3), ()]
    assert read_trace_file(file, columns, limit=1).blocks == [(1, 2**64, 3)]


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("[1, 2]", "3  `ids` has 2 blocks, and 40 tokens are 3 of 16"),
        ("[1, 2, 2.5]", "3  `ids` must hold whole numbers; got 2.5"),
        ("[1, true, 3]", "3  `ids` must hold whole numbers; got true"),
        ("[1, [2], 3]", "3  `ids` must hold whole numbers; got a list"),
        ('"1 2 three"', "3  `ids` must hold whole numbers; got 'three'"),
        ("3", "3  `ids` must be a list of ids of blocks; got 3"),
    ],
)
def test_blocks_that_do_not_fit_their_request_are_refused(tmp_path: Path, cell: str, message: str) -> None:
    """The row is told, and what is wrong with it."""
    file = tmp_path / "rows.jsonl"
    file.write_text(f'{{"t": 0, "request": 40, "ids": [1, 2, 3]}}\n\n{{"t": 1, "request": 40, "ids": {cell}}}\n')
    with pytest.raises(ScenarioError) as refused:
        read_trace_file(file, TraceColumns(blocks="ids", block=16))
    assert message in str(refused.value)
    with pytest.raises(ScenarioError, match="no column with their tokens is read"):
        read_trace_file(file, TraceColumns(blocks="ids", block=16, tokens=False))


def test_whole_numbers_lose_no_digit(tmp_path: Path) -> None:
    """Nanoseconds since 1970, which a float cannot hold, are subtracted before they become floats."""
    file = tmp_path / "ns.csv"
    file.write_text("t\n1700000000000000001\n1700000000000000004\n1700000001000000001\n")
    assert rows(read_trace_file(file, unit="ns"))[0] == [0.0, 3e-9, 1.0]


BAD = sorted(path for path in (DATA / "bad").iterdir() if path.suffix != ".txt")


@pytest.mark.parametrize("file", BAD, ids=lambda path: path.name)
def test_a_bad_file_is_refused_with_its_rows(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each bad file gives the report beside it: at most five rows, and how many more there are."""
    monkeypatch.chdir(file.parent)
    with pytest.raises(ScenarioError) as refused:
        read_trace_file(file.name)
    assert f"{refused.value}\n" == file.with_name(f"{file.name}.txt").read_text(encoding="utf-8")


def test_missing_and_impossible_files_are_refused(tmp_path: Path) -> None:
    """No such file names the nearest; a directory, an endless line and a damaged gzip file are told as such."""
    (tmp_path / "azure.csv").write_text("t\n1\n")
    (tmp_path / "long.csv").write_text("t\n" + "1" * 2_000_000)
    packed = bytearray(gzip.compress(b"t\n" + b"".join(b"%d\n" % i for i in range(5000)), mtime=0))
    packed[len(packed) // 2] ^= 0xFF
    (tmp_path / "broken.gz").write_bytes(packed)
    (tmp_path / "deep.jsonl").write_text("{" + '"t": ' + "[" * 100_000)
    for name, message in (
        ("azur.csv", "no such file; did you mean `azure.csv`?"),
        ("nowhere/azure.csv", "no such file"),
        ("", "is a directory; name a trace file in it"),
        ("long.csv", "has a line of more than 1048576 bytes"),
        ("broken.gz", "is a damaged or truncated gzip file"),
        ("deep.jsonl", "is not JSON"),
    ):
        with pytest.raises(ScenarioError) as refused:
            read_trace_file(tmp_path / name)
        assert message in str(refused.value)

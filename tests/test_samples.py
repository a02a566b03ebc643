"""Numbers from files: every format, and every way in which a file can be wrong, cited by file and line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from coordsim.sim.engine.samples import read_samples


def written(folder: Path, name: str, content: str | bytes) -> Path:
    """Write a file, gzipped where its name says so."""
    data = content.encode() if isinstance(content, str) else content
    file = folder / name
    file.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return file


@pytest.mark.parametrize(
    ("name", "content", "column"),
    [
        ("a.csv", "name,ms\nx,1\ny,2.5\n", "ms"),
        ("a.csv.gz", "name,ms\r\nx,1\r\ny,2.5\r\n", "ms"),
        ("a.csv", '"name","ms "\n"x\ny",1\n\nz, 2.5 \n', "ms"),
        ("a.csv", "ms\n1\n2.5", None),
        ("a.csv", "1\n2.5\n", None),
        ("a.csv", "\ufeffms,b\n1,0\n2.5,0\n", "ms"),
        ("a.jsonl", '{"ms": 1}\n\n{"ms": 2.5}\n', "ms"),
        ("a.jsonl.gz", "1\n2.5\n", None),
        ("a.txt", "1\n\n 2.5 \n", None),
        ("a.gz", "1e0\n2.5", None),
        ("a", "1\n2.5", None),
    ],
)
def test_every_format_gives_its_numbers(tmp_path: Path, name: str, content: str, column: str | None) -> None:
    """CSV with and without header, JSON lines and plain lines, gzipped or not, give the same two numbers."""
    assert read_samples(written(tmp_path, name, content), column).tolist() == [1.0, 2.5]


@pytest.mark.parametrize(
    ("name", "content", "column", "message"),
    [
        ("a.csv", "", None, "a.csv holds no values"),
        ("a.csv", "ms\n", None, "a.csv holds no values"),
        ("a.csv", "a,b\n1,2\n", None, "a.csv has several columns: name one of `a`, `b` as `column`"),
        ("a.csv", "latency,b\n1,2\n", "latncy", "a.csv has no column `latncy`; did you mean `latency`?"),
        ("a.csv", "a,b\n1,2\n", "zzz", "a.csv has no column `zzz`; it has `a`, `b`"),
        ("a.csv", "a\n1\nx\n", "a", "a.csv:3: must be a finite number; got 'x'"),
        ("a.csv", "a,b\n1,2\n3\n", "b", "a.csv:3: must be a finite number; got nothing"),
        ("a.csv", "a\n1\n\nnan\n", "a", "a.csv:4: must be a finite number; got 'nan'"),
        ("a.csv", "a\n1\ninf\n", "a", "a.csv:3: must be a finite number"),
        ("a.csv", "a\n1e999\n", "a", "a.csv:2: must be a finite number"),
        ("a.csv", "a\n-0.5\n", "a", "a.csv:2: must be >= 0; got -0.5"),
        ("a.csv", "a\n" + "1" * 200_000, "a", "a.csv:2: field larger than field limit"),
        ("a.csv.gz", "a\n1\n\n?\n", "a", "a.csv.gz:4: must be a finite number"),
        ("a.jsonl", '{"ms": 1}\n{"s": 1}\n', "ms", "a.jsonl:2: has no field `ms`"),
        ("a.jsonl", '{"ms": 1}\n', None, "a.jsonl:1: has named fields: name one of `ms` as `column`"),
        ("a.jsonl", "1\n", "ms", "a.jsonl:1: must be an object with `ms`; got 1"),
        ("a.jsonl", '{"ms": true}\n', "ms", "a.jsonl:1: must be a finite number; got true"),
        ("a.jsonl", '{"ms": NaN}\n', "ms", "a.jsonl:1: must be a finite number"),
        ("a.jsonl", "1\n{\n", None, "a.jsonl:2: must be JSON"),
        ("a.jsonl", "[" * 100_000, None, "a.jsonl:1: must be JSON"),
        ("a.jsonl", "9" * 5000, None, "a.jsonl:1: must be"),
        ("a.txt", "1\ntwo\n", None, "a.txt:2: must be a finite number; got 'two'"),
        ("a.txt", "1\n", "ms", "a.txt has one number a line and no columns; got column 'ms'"),
        ("a.txt", "1" * 2_000_000, None, "a.txt:1: must have lines of less than"),
        ("a.txt", b"\xff\xfe1\n", None, "a.txt must be text in UTF-8"),
    ],
)
def test_a_wrong_file_is_refused(
    tmp_path: Path, name: str, content: str | bytes, column: str | None, message: str
) -> None:
    """Each mistake in a file raises a ValueError that cites the file, and the line where there is one."""
    file = written(tmp_path, name, content)
    with pytest.raises(ValueError, match="a") as caught:
        read_samples(file, column, least=0.0)
    assert message in str(caught.value).replace(str(tmp_path) + "/", "")


def test_counts_must_be_whole(tmp_path: Path) -> None:
    """A fraction in a file of counts is refused; 2.0 is a whole number."""
    assert read_samples(written(tmp_path, "a.txt", "1\n2.0\n"), whole=True).tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match=r"a\.txt:2: must be a whole number; got 2.5"):
        read_samples(written(tmp_path, "a.txt", "1\n2.5\n"), whole=True)


def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    """A missing file, a folder, and a broken gzip raise a ValueError with the reason."""
    with pytest.raises(ValueError, match=r"cannot read .*no\.csv: no such file or directory"):
        read_samples(tmp_path / "no.csv")
    with pytest.raises(ValueError, match=r"cannot read .*: is a directory"):
        read_samples(tmp_path)
    for broken in (b"no gzip", gzip.compress(b"1\n2\n" * 1000)[:-20], gzip.compress(b"1\n")[:10] + b"\x07"):
        (tmp_path / "a.csv.gz").write_bytes(broken)
        with pytest.raises(ValueError, match="cannot read"):
            read_samples(tmp_path / "a.csv.gz")

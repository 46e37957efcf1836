"""Odd files: what is a table is read to the last cell, what is not is refused with its place."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from aggregator.core.errors import ImportDataError
from aggregator.ingest.tables import Line, Spec, read_folder

SPECS = {"t": Spec(("name", "amount"), ("note",)), "claims": Spec(("a",))}


def rows(folder: Path, data: bytes | None = None) -> list[tuple[str, str, str, str]]:
    if data is not None:
        (folder / "t.csv").write_bytes(data)
    sheets = read_folder(folder, SPECS, ("t",)).sheets
    return [(line.where, line["name"], line["amount"], line["note"]) for line in sheets["t"]]


def arrow(folder: Path, **columns: Any) -> list[tuple[str, str, str, str]]:
    pq.write_table(pa.table(columns), folder / "t.parquet")
    return rows(folder)


def refused(folder: Path, data: bytes | None = None) -> ImportDataError:
    with pytest.raises(ImportDataError) as caught:
        rows(folder, data)
    assert caught.value.expected
    assert caught.value.found
    assert caught.value.fix
    return caught.value


@pytest.mark.parametrize(
    "data",
    [
        b"name,amount\na,1\nb,2\n",
        b"name,amount\na,1\nb,2",
        b"name,amount\r\na,1\r\nb,2\r\n",
        b"name,amount\ra,1\rb,2\r",
        b"\xef\xbb\xbfname,amount\na,1\nb,2\n",
        b' name , "amount"\n a ,1\n"b", 2 \n',
    ],
)
def test_the_same_table_in_many_dresses(tmp_path: Path, data: bytes) -> None:
    assert rows(tmp_path, data) == [("t.csv line 2", "a", "1", ""), ("t.csv line 3", "b", "2", "")]


def test_quoted_commas_quotes_and_line_ends_keep_the_count_of_lines(tmp_path: Path) -> None:
    data = b'note,name,amount\n"x, ""y""\nz",a,1\n\n"1\x0b2\x0c3\xe2\x80\xa84",b,2\n'
    assert rows(tmp_path, data) == [
        ("t.csv line 2", "a", "1", 'x, "y"\nz'),
        ("t.csv line 5", "b", "2", "1\x0b2\x0c3\u20284"),
    ]


@pytest.mark.parametrize(
    ("data", "message", "hint"),
    [
        (b"", "t.csv is empty", ""),
        (b"name;amount\na;1\n", "separated by semicolons", "commas"),
        (b"name\tamount\na\t1\n", "separated by tabs", "commas"),
        (b"name,amount,\na,1,\n", "unknown column ''", "remove it"),
        (b"name,amount\na,1,\n", "line 2 has the wrong number of cells", "end no line"),
        (b"name,amount\na,1,234\n", "line 2 has the wrong number of cells", "quote a cell"),
        (b"name,amount\n\n\na\n", "line 4 has the wrong number of cells", ""),
        (b"name,amount\n,\n", "line 2: name is empty", ""),
        (b"name,amount\na, \n", "line 2: amount is empty", ""),
        (b"name,amount,amount\na,1,2\n", "repeats a column", ""),
        (b"Name,amount\na,1\n", "unknown column 'Name'", "did you mean 'name'?"),
        (b"name,note\na,1\n", "lacks a column", ""),
        (b'name,amount\na,1\nb,"2\nc,3\n', "line 3 cannot be read as CSV", ""),
        (b'name,amount\na,"1"2\n', "line 2 cannot be read as CSV", ""),
        (b"name,amount\na\0,1\n", "line 2: a cell cannot be kept", ""),
        (b"name,amount\n" + b"a" * 500 + b",1\n", "line 2: a cell cannot be kept", ""),
        (b"name,amount\n" + b"a" * 200_000 + b",1\n", "line 2 cannot be read as CSV", ""),
        (b"name,amount\n\xe4,1\n", "not UTF-8", ""),
        ("name,amount\na,1\n".encode("utf-16"), "not UTF-8", ""),
    ],
)
def test_what_is_no_such_csv_is_refused_with_its_place(tmp_path: Path, data: bytes, message: str, hint: str) -> None:
    error = refused(tmp_path, data)
    assert message in error.message
    assert hint in error.fix


def test_parquet_holds_exact_types_and_no_others(tmp_path: Path) -> None:
    wanted = [("t.parquet row 1", "a", "0.000000000000000001", ""), ("t.parquet row 2", "b", "20", "n")]
    note = [None, "n"]
    amount = [Decimal("0.000000000000000001"), Decimal("20")]
    found = arrow(tmp_path, name=["a", "b"], amount=pa.array(amount, pa.decimal128(38, 18)), note=note)
    assert [r[:2] + r[3:] for r in found] == [r[:2] + r[3:] for r in wanted]
    assert [Decimal(r[2]) for r in found] == amount
    assert all("E" not in r[2] for r in found)
    assert arrow(tmp_path, name=["a"], amount=pa.array([2**63], pa.uint64()))[0][2] == str(2**63)
    coded = pa.array([" a", "b"]).dictionary_encode()
    assert [r[1] for r in arrow(tmp_path, name=coded, amount=["1", "2"])] == ["a", "b"]
    assert [r[1] for r in arrow(tmp_path, name=pa.array(["x"], pa.large_string()), amount=["1"])] == ["x"]
    big = arrow(tmp_path, name=[str(i) for i in range(70_000)], amount=pa.array(range(70_000)))
    assert big[-1] == ("t.parquet row 70000", "69999", "69999", "")


@pytest.mark.parametrize(
    "amount",
    [
        pa.array([1.0]), pa.array([1.0], pa.float32()), pa.array([True]), pa.array([b"1"]), pa.array([0], pa.date32()),
        pa.array([["1"]]), pa.array([{"x": 1}]), pa.array([1.0]).dictionary_encode(),
    ],
)  # fmt: skip
def test_parquet_of_other_types_is_refused(tmp_path: Path, amount: Any) -> None:
    pq.write_table(pa.table({"name": ["a"], "amount": amount}), tmp_path / "t.parquet")
    error = refused(tmp_path)
    assert "column 'amount' holds" in error.message
    assert "strings" in error.fix


def test_parquet_that_lacks_something(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    for columns, message in (
        ({"name": ["a", None], "amount": ["1", "2"]}, "row 2: name is empty"),
        ({"name": ["a"], "amount": pa.nulls(1)}, "row 1: amount is empty"),
        ({"name": ["a"], "amuont": ["1"]}, "unknown column 'amuont'"),
    ):
        pq.write_table(pa.table(columns), file)
        assert message in refused(tmp_path).message
    file.write_bytes(file.read_bytes()[:-20])
    assert "not Parquet" in refused(tmp_path).message


@pytest.mark.parametrize("name", ["claims.xlsx", "claims.csv.gz", "claims.CSV", "Claims.tsv", "claims"])
def test_a_table_in_another_dress_is_not_passed_over(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"a\n1\n")
    assert name in refused(tmp_path, b"name,amount\na,1\n").message


def test_other_files_are_none_of_our_business(tmp_path: Path) -> None:
    for name in ("README.md", ".claims.csv.swp", "query.sql"):
        (tmp_path / name).write_bytes(b"\xff")
    assert len(rows(tmp_path, b"name,amount\na,1\n")) == 1
    (tmp_path / "t.csv").unlink()
    (tmp_path / "t.csv").mkdir()
    assert "cannot read t.csv" in refused(tmp_path).message
    with pytest.raises(ImportDataError, match="not a folder"):
        read_folder(tmp_path / "no", SPECS, ("t",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1e3", "not a number"), ("1,000", "not a number"), ("1_000", "not a number"), ("\uff11", "not a number"),
        ("-1", "negative"), ("0.123", "too many decimal places"), ("9" * 80, "out of range"),
        ("9" * 300, "not a number"),        ("10.01", "out of range"),
    ],
)  # fmt: skip
def test_numbers_are_plain_and_in_range(text: str, message: str) -> None:
    line = Line("t.csv line 7", {"amount": 0}, [text])
    with pytest.raises(ImportDataError, match=message) as caught:
        line.exact("amount", 2, high=1000)
    assert "t.csv line 7" in caught.value.message
    assert Line("", {"amount": 0}, ["+10.0"]).exact("amount", 2, high=1000) == 1000
    assert Line("", {"amount": 0}, [""]).exact("amount", 2, "0.5") == 50

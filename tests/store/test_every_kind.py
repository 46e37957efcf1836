"""Laws of all row kinds, written once: a kind of `core.schema` is held to them from the day it is there."""

from __future__ import annotations

import json
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from io import BytesIO, StringIO
from typing import Any

import pandas as pd
import pytest

from aggregator.core.block import BlockRef, Cut
from aggregator.core.errors import DomainError
from aggregator.core.fixed import I256_MAX, I256_MIN, U256_MAX
from aggregator.core.rows import Row
from aggregator.core.schema import KINDS, POSITIONS, SCHEMA
from aggregator.core.table import raw_tables
from aggregator.report.frames import frame
from aggregator.snapshot import Snapshot, build
from aggregator.store import Store

D = "eip155:1/test/d"
# what a column holds, by its type: the first is plain, then its edges, then what it cannot hold
FITS: dict[str, tuple[Any, ...]] = {
    "name": ("x", "", "é\U0001f3e6", "a'b\"c", "n" * 2000),
    "text": ("why", "", "\N{SNOWMAN} 1 %s ; --", "t" * 2000),
    "int": (7, 0, -1, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)),
    "u256": (5, 0, 1, 2**53 + 1, 2**255, U256_MAX),
    "i256": (5, 0, -1, 2**53 + 1, -(2**53) - 1, I256_MAX, I256_MIN),
    "bytes": (b"\x09", b"", b"\0\xff", bytes(300)),
}
EXPONENTS = (6, 0, 18, 77, -3)  # a scale that no number has is nobody's row
MISFITS: dict[str, tuple[Any, ...]] = {
    "name": (None, 5, b"x"),
    "text": (None, 5),
    "int": (2**63, -(2**63) - 1, 0.5, "7", None),
    "u256": (-1, U256_MAX + 1, 0.5, "7", None),
    "i256": (I256_MIN - 1, I256_MAX + 1, 0.5, "7", None),
    "bytes": ("text", 5, None),
}
every_kind = pytest.mark.parametrize("kind", SCHEMA)


def values(kind: str, column: str) -> tuple[Any, ...]:
    (of,) = (c.type for c in SCHEMA[kind] if c.name == column)
    return EXPONENTS if column == "exp" else FITS[of]


def plain(kind: str, number: int) -> Any:
    """A row whose first column, who or what it is about, tells it from others."""
    first, *others = (c.name for c in SCHEMA[kind])
    return KINDS[kind](f"{first}{number}", *(values(kind, name)[0] for name in others))


def variants(kind: str) -> list[Any]:
    """A plain row, and one for every edge of every column; no two about the same."""
    rows = [plain(kind, 0)]
    for place, column in enumerate(SCHEMA[kind]):
        for value in values(kind, column.name)[1:]:
            if not (kind in POSITIONS and column.name == "holder" and not value):  # nobody holds nothing
                rows.append(plain(kind, 0 if place == 0 else len(rows))._replace(**{column.name: value}))
    return rows


def cut_at(number: int) -> Cut:
    return Cut.of([BlockRef("eip155:1", number, f"0x{number:04x}", 1_700_000_000 + number, "finalized")])


def put(run: Any, kind: str, rows: list[Any], closed: list[Any] | None = None) -> None:
    """closed: positions that were read and are no more."""
    if kind in POSITIONS:
        run.positions(D, [row[:3] for row in [*rows, *(closed or [])]], rows)
    else:
        run.cut_rows(D, rows)


def write(store: Store, kind: str, cut: Cut, rows: list[Any], closed: list[Any] | None = None) -> None:
    with store.write_run(cut, version="1") as run:
        put(run, kind, rows, closed)
        run.cursor(D, cut.blocks[0].number)


def snapshot(store: Store, cut: Cut) -> Snapshot:
    return build(store.read(cut), cut, store.assets(cut), {c.deployment: c.level for c in store.coverage(cut)})


def frozen(rows: list[Row], cut: Cut) -> Snapshot:
    return build(raw_tables((D, row) for row in rows), cut, [])


def of_ours(kind: str, rows: list[Any], wanted: list[Any]) -> list[Any]:
    """Without the gaps that a snapshot adds."""
    return [row for row in rows if kind != "gap" or row in wanted]


@every_kind
def test_every_edge_of_every_column_comes_back(kind: str, store: Store) -> None:
    rows, cut = variants(kind), cut_at(10)
    write(store, kind, cut, rows)
    found = snapshot(store, cut)
    assert sorted(of_ours(kind, found.rows(kind), rows)) == sorted(rows)
    assert all(len(found.rows(other)) == 0 for other in SCHEMA if other not in (kind, "gap"))
    shuffled = random.Random(kind).sample(rows, len(rows))
    assert found.digest == frozen(shuffled, cut).digest


@every_kind
def test_every_column_is_in_the_digest(kind: str) -> None:
    cut, seen = cut_at(10), dict[str, Any]()
    for column in SCHEMA[kind]:
        for value in values(kind, column.name):
            row = plain(kind, 0)._replace(**{column.name: value})
            assert seen.setdefault(frozen([row], cut).digest, row) == row
    assert len(seen) == 1 + sum(len(values(kind, c.name)) - (i > 0) for i, c in enumerate(SCHEMA[kind]))


@every_kind
def test_a_frame_holds_every_row_exactly(kind: str) -> None:
    rows = variants(kind)
    snap = frozen(rows, cut_at(10))
    found = frame(snap, kind)
    assert list(found.columns) == [*(c.name for c in SCHEMA[kind]), "deployment"]
    assert back(kind, found) == snap.rows(kind)
    assert sorted(of_ours(kind, back(kind, found), rows)) == sorted(rows)
    for frames in (found, frame(snap, kind, [])):
        for column in SCHEMA[kind]:
            whole = frames[column.name].dtype == "int64"
            assert whole if column.type == "int" else isinstance(frames[column.name].dtype, pd.StringDtype)
    assert len(frame(snap, kind, [])) == 0


def back(kind: str, found: pd.DataFrame) -> list[Row]:
    """Rows from a frame, its exact columns from their text."""
    inverse: dict[str, Callable[[Any], Any]] = {"bytes": lambda text: bytes.fromhex(text.removeprefix("0x"))}
    inverse |= {"u256": int, "i256": int, "int": int}
    columns = [list(map(inverse.get(c.type, str), found[c.name])) for c in SCHEMA[kind]]
    return [KINDS[kind](*row) for row in zip(*columns, strict=True)]


def by_parquet(found: pd.DataFrame) -> pd.DataFrame:
    found.to_parquet(file := BytesIO())
    return pd.read_parquet(file)


def by_feather(found: pd.DataFrame) -> pd.DataFrame:
    found.to_feather(file := BytesIO())
    return pd.read_feather(file)


def by_json(found: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame(json.loads(found.to_json(orient="records")))


def by_csv(found: pd.DataFrame) -> pd.DataFrame:
    texts = {name: "str" for name, dtype in found.dtypes.items() if dtype != "int64"}
    return pd.read_csv(StringIO(found.to_csv(index=False)), dtype=texts, keep_default_na=False)


def by_sql(found: pd.DataFrame) -> pd.DataFrame:
    with closing(sqlite3.connect(":memory:")) as base:
        found.to_sql("rows", base, index=False)
        return pd.read_sql("SELECT * FROM rows", base)


@pytest.mark.parametrize("saved", [by_parquet, by_feather, by_json, by_csv, by_sql])
@every_kind
def test_a_frame_can_be_saved_and_is_the_same_again(kind: str, saved: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    snap = frozen(variants(kind), cut_at(10))
    assert back(kind, saved(frame(snap, kind))) == snap.rows(kind)


@every_kind
def test_what_does_not_fit_is_named(kind: str, store: Store) -> None:
    for column in SCHEMA[kind]:
        for value in MISFITS[column.type]:
            row = plain(kind, 0)._replace(**{column.name: value})
            with pytest.raises(DomainError, match=rf"{kind}\.{column.name} does not fit"):
                frozen([row], cut_at(1))
            if kind in POSITIONS and column.name in ("market", "holder", "ref"):
                continue  # its target cannot be named either
            refused = pytest.raises(DomainError, match=rf"{kind}\.{column.name} does not fit")
            with store.write_run(cut_at(1)) as run, refused:
                put(run, kind, [row])


@pytest.mark.parametrize("kind", POSITIONS)
def test_a_position_lives_from_its_change_to_the_next(kind: str, store: Store) -> None:
    """Each column that does not tell positions apart is changed at one block, and the position closed at another."""
    old = plain(kind, 0)
    names = [c.name for c in SCHEMA[kind] if c.type not in ("name", "text")]
    number = 10
    write(store, kind, cut_at(number), [old])
    for name in names:
        new = old._replace(**{name: values(kind, name)[1]})
        number += 10
        write(store, kind, cut_at(number), [new])
        assert snapshot(store, cut_at(number)).rows(kind) == [new]
        assert snapshot(store, cut_at(number - 10)).rows(kind) == [old]
        old = new
    write(store, kind, cut_at(number + 10), [], [old])
    assert snapshot(store, cut_at(number + 10)).rows(kind) == []
    assert snapshot(store, cut_at(number)).rows(kind) == [old]


@pytest.mark.parametrize("kind", [kind for kind in SCHEMA if kind not in POSITIONS])
def test_a_row_of_a_cut_is_that_cuts_alone(kind: str, store: Store) -> None:
    for number in (10, 20):
        write(store, kind, cut_at(number), [plain(kind, number)])
    for number in (10, 20):
        rows = [plain(kind, number)]
        assert of_ours(kind, snapshot(store, cut_at(number)).rows(kind), rows) == rows

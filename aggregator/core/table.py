"""Rows as columns: the raw form between store and snapshot, and the frozen form that a snapshot serves.

A raw column is, by `core.schema` type: name -> int64 codes into the shared `names`; u256/i256 -> one bytes object of
32 bytes a row (`core.fixed`); int -> int64; text -> list of str; bytes -> list of bytes.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.core.rows import Row
from aggregator.core.schema import KIND_OF, PACK, SCHEMA, Column

I8 = npt.NDArray[np.int64]
RawColumn = I8 | bytes | list[str] | list[bytes]
DEPLOYMENT = Column("deployment", "name")

_OFFSET = 2**255
_TEXT_BYTES = 2000  # a b-tree page of PostgreSQL holds a key of 2,704 bytes


class RawTable(NamedTuple):
    """n rows of one kind in any order; `columns` holds every column of its schema and `deployment` (a name)."""

    kind: str
    n: int
    names: Sequence[str]
    columns: Mapping[str, RawColumn]


@dataclass(frozen=True, slots=True)
class Table:
    """Read-only numpy columns of one kind, all of length n.

    name: int32 codes into the snapshot's `names`. u256/i256: (n, 32) uint8, and float64 under `<column>_f` (scaled by
    the row's `exp` where the kind has one). int: int64. text and bytes: object. `deployment`: int32 code.
    """

    kind: str
    n: int
    columns: Mapping[str, npt.NDArray[Any]]

    def __getitem__(self, column: str) -> npt.NDArray[Any]:
        return self.columns[column]

    def __len__(self) -> int:
        return self.n


def clean_text(text: str) -> str:
    """Text as both databases can hold it: no NUL, no lone surrogate; above 2,000 bytes cut and closed by its digest.

    Token names come from anybody; the same rule holds without a store, so that digests agree.
    """
    if _clean(text) and len(text) <= _TEXT_BYTES:
        return text
    data = text.replace("\0", "\ufffd").encode("utf-8", "replace")
    if len(data) > _TEXT_BYTES:
        data = data[: _TEXT_BYTES - 80] + b"#" + hashlib.sha256(data).hexdigest().encode()
    return data.decode("utf-8", "ignore")


def _clean(text: str) -> bool:
    return text.isascii() and "\0" not in text


class Names(dict[str, int]):
    """Text -> code; a text seen for the first time gets the next one and is remembered in `added`."""

    def __init__(self, known: Iterable[tuple[str, int]] = (), following: int = 0) -> None:
        super().__init__(known)
        self.following = following
        self.added: list[tuple[int, str]] = []

    def __missing__(self, text: str) -> int:
        clean = clean_text(text)
        if clean != text:
            code = self[clean]
        else:
            code = self.following
            self.following += 1
            self.added.append((code, text))
        self[text] = code
        return code

    def codes(self, texts: Iterable[str]) -> list[int]:
        """Codes of texts, in order; AttributeError or TypeError if one is not text."""
        wanted = list(texts)
        codes = list(map(self.get, wanted))
        if None not in codes:
            return cast(list[int], codes)
        new = [text for text in dict.fromkeys(wanted) if text not in self]
        if new and _clean("".join(new)) and max(map(len, new)) <= _TEXT_BYTES:  # a run's accounts, all at once
            following = range(self.following, self.following + len(new))
            self.following += len(new)
            self.update(zip(new, following, strict=True))
            self.added += zip(following, new, strict=True)
        return list(map(self.__getitem__, wanted))


def encode(kind: str, rows: Sequence[Row], codes: Callable[[Sequence[str]], list[int]]) -> dict[str, list[Any]]:
    """Rows of one kind -> a list per schema column, exact integers packed, names coded (`Names.codes`).

    DomainError names the first row and column that does not fit (an integer beyond its type, a float, a None).
    """
    out: dict[str, list[Any]] = {}
    for place, column in enumerate(SCHEMA[kind]):
        try:
            # not zip(*rows): a million iterators at once cost more than the columns
            out[column.name] = _encode_column(column, list(map(itemgetter(place), rows)), codes)
        except (OverflowError, TypeError, AttributeError, DomainError) as error:
            raise _misfit(kind, column, rows) from error
    return out


def _encode_column(column: Column, values: Sequence[Any], codes: Callable[[Sequence[str]], list[int]]) -> list[Any]:
    if column.type == "name":
        return codes(values)
    if column.type == "u256":
        return [value.to_bytes(32, "big") for value in values]
    if column.type == "i256":
        return [(value + _OFFSET).to_bytes(32, "big") for value in values]
    if column.type == "int":
        return array("q", values).tolist()
    if column.type == "bytes":
        if set(map(type, values)) - {bytes}:
            raise TypeError("not bytes")
        return list(values)
    return list(map(clean_text, values))


def _misfit(kind: str, column: Column, rows: Sequence[Row]) -> DomainError:
    place = [c.name for c in SCHEMA[kind]].index(column.name)
    wanted = {"name": "text", "int": "a 64-bit integer", "u256": "0 <= integer < 2^256"}.get(column.type, column.type)
    for row in rows:
        try:
            _encode_column(column, (row[place],), Names().codes)
        except (OverflowError, TypeError, AttributeError, DomainError):
            break
    return DomainError(
        f"{kind}.{column.name} does not fit its type",
        expected=wanted,
        found=f"{_shown(row[place])} in {kind}({', '.join(map(_shown, row))})"[:500],
        fix="a value that a contract cannot mean is a Gap, not a row",
    )


def _shown(value: Any) -> str:
    if isinstance(value, int) and value.bit_length() > 600:  # Python refuses to print what is very long
        return f"an integer of {value.bit_length()} bits"
    return repr(value)


def raw_table(kind: str, columns: Mapping[str, list[Any]], names: Sequence[str]) -> RawTable:
    """Encoded columns (`encode`, with `deployment` codes added) -> RawTable."""
    out: dict[str, RawColumn] = {}
    for column in (*SCHEMA[kind], DEPLOYMENT):
        values = columns[column.name]
        if column.type in ("name", "int"):
            out[column.name] = np.array(values, dtype=np.int64)
        elif column.type in PACK:
            out[column.name] = b"".join(values)
        else:
            out[column.name] = values
    return RawTable(kind, len(columns["deployment"]), names, out)


def raw_tables(rows: Iterable[tuple[str, Row]]) -> dict[str, RawTable]:
    """(deployment id, row) pairs, assets left aside -> the same tables as a store would read them back."""
    by_kind: dict[str, tuple[list[str], list[Row]]] = {kind: ([], []) for kind in SCHEMA}
    for deployment, row in rows:
        if type(row) in KIND_OF:
            deployments, kept = by_kind[KIND_OF[type(row)]]
            deployments.append(deployment)
            kept.append(row)
    names = Names()
    encoded = {
        kind: encode(kind, kept, names.codes) | {"deployment": names.codes(deployments)}
        for kind, (deployments, kept) in by_kind.items()
    }
    texts = [text for _, text in names.added]
    return {kind: raw_table(kind, columns, texts) for kind, columns in encoded.items()}

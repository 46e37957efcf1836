"""Raw columns -> frozen columns: one sorted code book, canonical row order, float64 beside exact bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from itertools import chain, compress
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.core.fixed import column as packed
from aggregator.core.fixed import to_float
from aggregator.core.schema import PACK, SCHEMA
from aggregator.core.table import DEPLOYMENT, RawTable, Table

I8 = npt.NDArray[np.int64]
_CHUNK = 2**14
_EXP_LIMIT = 200  # 2^256 * 10^200 is still a float64


def code_book(
    raw: Mapping[str, RawTable], more: Sequence[str] = ()
) -> tuple[dict[str, int], dict[int, npt.NDArray[np.int32]]]:
    """All texts in use (and more) with their codes, sorted; by identity of each raw `names`, its codes -> ours."""
    used: dict[int, tuple[Sequence[str], npt.NDArray[np.bool_]]] = {}
    for table in raw.values():
        _, mask = used.setdefault(id(table.names), (table.names, np.zeros(len(table.names), dtype=np.bool_)))
        for column in (*SCHEMA[table.kind], DEPLOYMENT):
            if column.type == "name":
                mask[np.asarray(table.columns[column.name])] = True
    texts = {key: list(compress(names, mask.tolist())) for key, (names, mask) in used.items()}
    # a stable sort is linear on names that a store hands over sorted; a set would shuffle them
    ordered = dict.fromkeys(sorted(chain(*texts.values(), more)))
    code = dict(zip(ordered, range(len(ordered)), strict=True))
    maps = {}
    for key, (names, mask) in used.items():
        maps[key] = np.full(len(names), -1, dtype=np.int32)
        maps[key][mask] = list(map(code.__getitem__, texts[key]))
    return code, maps


def freeze(raw: RawTable, codes: npt.NDArray[np.int32]) -> Table:
    """Columns of one kind in canonical order: by names and integers in schema order, deployment, then exact bytes."""
    schema = (*SCHEMA[raw.kind], DEPLOYMENT)
    columns: dict[str, npt.NDArray[Any]] = {}
    for column in schema:
        values: Any = raw.columns[column.name]
        if column.type == "name":
            columns[column.name] = codes[values]
        elif column.type == "int":
            columns[column.name] = np.asarray(values, dtype=np.int64)
        elif column.type in PACK:
            columns[column.name] = packed(values)
        else:
            columns[column.name] = np.fromiter(values, dtype=object, count=raw.n)
    order = canonical_order([(columns[c.name], c.type) for c in schema], raw.n)
    if order is not None:
        columns = {name: values[order] for name, values in columns.items()}
    exp = _exponents(raw.kind, columns)
    for column in SCHEMA[raw.kind]:
        if column.type in PACK:
            columns[f"{column.name}_f"] = _floats(columns[column.name], exp, signed=column.type == "i256")
    for values in columns.values():
        values.setflags(write=False)
    return Table(raw.kind, raw.n, columns)


def merge(table: Table, more: RawTable, codes: Mapping[str, int]) -> Table:
    """Rows of a frozen table and more of its kind, whose names are all in the book, in canonical order."""
    own = np.array([codes[name] for name in more.names], dtype=np.int32)
    columns: dict[str, Any] = {}
    for column in (*SCHEMA[table.kind], DEPLOYMENT):
        first, second = table[column.name], cast(Any, more.columns[column.name])
        if column.type == "name":
            columns[column.name] = np.concatenate([first, own[second]]).astype(np.int64)
        elif column.type in PACK:
            columns[column.name] = first.tobytes() + second
        else:
            columns[column.name] = [*first.tolist(), *second]
    same = np.arange(len(codes), dtype=np.int32)
    return freeze(RawTable(table.kind, table.n + more.n, (), columns), same)


def first_teller(claims: Table) -> Table:
    """Of each asset the claims that one deployment states: of two that read the same contract both would be counted."""
    if not claims.n:
        return claims
    first = np.full(int(claims["asset"].max()) + 1, np.iinfo(np.int32).max, dtype=np.int32)
    np.minimum.at(first, claims["asset"], claims["deployment"])
    kept = first[claims["asset"]] == claims["deployment"]
    if kept.all():
        return claims
    columns = {name: values[kept] for name, values in claims.columns.items()}
    for values in columns.values():
        values.setflags(write=False)
    return Table(claims.kind, int(kept.sum()), columns)


def _floats(exact: npt.NDArray[np.uint8], exp: npt.NDArray[np.int16] | int, *, signed: bool) -> npt.NDArray[np.float64]:
    """`core.fixed.to_float` a cache full at a time: its limbs are eight times the answer."""
    out = np.empty(len(exact))
    for first in range(0, len(exact), _CHUNK):
        part = slice(first, first + _CHUNK)
        out[part] = to_float(exact[part], exp if isinstance(exp, int) else exp[part], signed=signed)
    return out


def _exponents(kind: str, columns: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.int16] | int:
    if "exp" not in columns or not len(columns["exp"]):
        return 0
    exp = columns["exp"]
    if int(np.abs(exp).max()) > _EXP_LIMIT:
        worst = int(exp[np.abs(exp).argmax()])
        raise DomainError(f"{kind}.exp is out of range", expected=f"-{_EXP_LIMIT} .. {_EXP_LIMIT}", found=str(worst))
    return exp.astype(np.int16)


def canonical_order(columns: Sequence[tuple[npt.NDArray[Any], str]], n: int) -> I8 | None:
    """Row order that depends on the rows alone; None where they already stand in it.

    Name and integer columns are folded into as few 64-bit keys as hold them; rows that tie there are told apart by
    their exact, text and bytes columns.
    """
    if n < 2:
        return None
    keys = _folded([values for values, kind in columns if kind in ("name", "int")])
    if len(keys) == 1:
        key = keys[0]
        if bool((key[1:] > key[:-1]).all()):
            return None
        order: I8 = np.argsort(key, kind="stable")
    else:
        order = np.lexsort(keys[::-1])
    same = np.ones(n - 1, dtype=np.bool_)
    for key in keys:
        ordered = key[order]
        same &= ordered[1:] == ordered[:-1]
    if same.any():
        rest = [values for values, kind in columns if kind not in ("name", "int")]
        edges = np.flatnonzero(np.diff(np.concatenate(([False], same, [False])).astype(np.int8)))
        for start, stop in zip(edges[::2].tolist(), (edges[1::2] + 1).tolist(), strict=True):
            ties = order[start:stop].tolist()
            ties.sort(key=lambda row: [v[row].tobytes() if v.ndim == 2 else v[row] for v in rest])
            order[start:stop] = ties
    return order


def _folded(columns: Sequence[npt.NDArray[Any]]) -> list[I8]:
    """Mixed-radix keys that order as the columns do, first column first."""
    keys: list[I8] = []
    room = 0
    for values in columns:
        low, high = int(values.min()), int(values.max())
        span = high - low + 1
        if span == 1:
            continue
        if span > 2**62:
            keys.append(values.astype(np.int64))
            room = 0
            continue
        digit = values.astype(np.int64) - low
        if keys and room // span >= 1:
            keys[-1] = keys[-1] * span + digit
            room //= span
        else:
            keys.append(digit)
            room = 2**62 // span
    return keys or [np.zeros(len(columns[0]), dtype=np.int64)]


def digest(parts: Sequence[str], names: Sequence[str], tables: Mapping[str, Table]) -> str:
    """sha256 over parts, the code book and every column in schema order; text and bytes with their lengths."""
    out = hashlib.sha256()
    _texts(out, parts)
    _texts(out, names)
    for kind, schema in SCHEMA.items():
        table = tables[kind]
        out.update(f"{kind} {table.n}\n".encode())
        for column in (*schema, DEPLOYMENT):
            values = table[column.name]
            if column.type == "text":
                _texts(out, values.tolist())
            elif column.type == "bytes":
                found = values.tolist()
                _lengths(out, found)
                out.update(b"".join(found))
            else:
                little = (
                    values if values.dtype == np.uint8 else values.astype(values.dtype.newbyteorder("<"), copy=False)
                )
                out.update(np.ascontiguousarray(little).data)
    return out.hexdigest()


def _texts(out: Any, values: Sequence[str]) -> None:
    _lengths(out, values)
    out.update("".join(values).encode())


def _lengths(out: Any, values: Sequence[str] | Sequence[bytes]) -> None:
    out.update(np.fromiter(map(len, values), dtype="<i8", count=len(values)).tobytes())

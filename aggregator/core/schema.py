"""Columns of every row kind, derived from `core.rows`: one source for SQL tables, numpy columns and the docs."""

from __future__ import annotations

from typing import Literal, NamedTuple

from aggregator.core import rows
from aggregator.core.fixed import pack_i256, pack_u256, unpack_i256, unpack_u256

ColumnType = Literal["name", "text", "u256", "i256", "int", "bytes"]

# name: an id that repeats (interned by the store, a code in a snapshot); text: free text that does not
_TEXT = {"detail", "value_usd"}
_I256 = {"Term.raw", "Price.raw", "Depth.raw", "AccountTerm.raw", "PerpPosition.size", "PerpPosition.open_notional",
         "OptionLeg.strike", "OptionLeg.size"}  # fmt: skip
_U256 = {"Index.num", "Index.den", "Claim.num", "Claim.den", "Backstop.raw", "Total.raw", "Exposure.shares"}


class Column(NamedTuple):
    name: str
    type: ColumnType


def _column_type(kind: type[rows.Row], field: str, annotation: object) -> ColumnType:
    qualified = f"{kind.__name__}.{field}"
    if qualified in _I256:
        return "i256"
    if qualified in _U256:
        return "u256"
    if annotation in (bytes, "bytes"):
        return "bytes"
    if annotation in (int, "int"):
        return "int"
    return "text" if field in _TEXT else "name"


def columns(kind: type[rows.Row]) -> tuple[Column, ...]:
    notes = kind.__annotations__
    return tuple(Column(f, _column_type(kind, f, _bare(notes[f]))) for f in kind._fields)


def _bare(annotation: object) -> object:
    return getattr(annotation, "__forward_arg__", annotation)


KINDS: dict[str, type[rows.Row]] = {
    "market": rows.Market, "term": rows.Term, "index": rows.Index, "price": rows.Price, "claim": rows.Claim,
    "depth": rows.Depth, "backstop": rows.Backstop, "total": rows.Total, "gap": rows.Gap,
    "exposure": rows.Exposure, "perp": rows.PerpPosition, "option": rows.OptionLeg, "account_term": rows.AccountTerm,
}  # fmt: skip
KIND_OF: dict[type[rows.Row], str] = {v: k for k, v in KINDS.items()}
SCHEMA: dict[str, tuple[Column, ...]] = {k: columns(v) for k, v in KINDS.items()}
POSITIONS: tuple[str, ...] = tuple(KIND_OF[k] for k in rows.POSITION_KINDS)

PACK = {"u256": pack_u256, "i256": pack_i256}
UNPACK = {"u256": unpack_u256, "i256": unpack_i256}

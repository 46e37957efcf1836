"""Which assets a symbol means: anybody may call his token WETH, so the market that prices it has to vouch for it.

Standing of an asset, the lower the better:

    0  vouched for: priced in dollars by a market of its own chain or venue, by a reference feed, or by an option or
       perp venue; or a claim that a deployment issues (receipt, vault share). A pair that anybody may open with an
       oracle of his own (a lending market that counts in another token) vouches for nobody.
       A book prices all it holds, so there a lending market has to take the asset as collateral, or have lent it.
    1  not vouched for, but at least a hundredth of the largest of its symbol there
    2  the rest

Size is the debt of the accounts that back it with the asset, and what is owed in it (on a chain only debt in assets of
standing 0 counts: money that its lender believes in); where nothing is lent, the value held; where nothing is held, all
are equal.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from aggregator.core.ids import USD, in_book, source_of
from aggregator.snapshot import values

if TYPE_CHECKING:
    from aggregator.snapshot.snapshot import Snapshot

VOUCHED, LARGE, SMALL = range(3)
IF_THERE = "?"
_LARGE_FRAC = 0.01
_LISTED_KINDS = ("option", "perp", "surface", "feed")  # markets that nobody but the protocol opens
_BOOK_NAME = "/asset:"


class Meaning(NamedTuple):
    """Sorted ids: those that are meant, and those of the same symbol that are not."""

    assets: tuple[str, ...]
    others: tuple[str, ...]


def fold(text: str) -> str:
    """Texts that a person takes for the same: case and composition of accents do not count."""
    if text.isascii():
        return text.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def meaning(text: str, symbols: Mapping[str, str], standing: Mapping[str, int]) -> Meaning:
    """text: an asset id, a name of a book, or a symbol. symbols: of every asset there is, by id.

    An id is that asset. A symbol is every asset of that symbol that a market vouches for, on all chains; where none
    does, the large ones of each chain. On one chain a spelling that fits to the letter goes before others. Where no
    symbol is so, a book's own name for an asset counts.
    """
    if text in symbols:
        return Meaning((text,), ())
    wanted = fold(text)
    if same := [a for a in symbols if "/" in text and fold(a) == wanted]:
        return Meaning(tuple(same), ())
    called = sorted(a for a, symbol in symbols.items() if wanted and fold(symbol) == wanted)
    called = called or sorted(a for a in symbols if wanted and fold(_book_name(a)) == wanted)
    best = [a for a in called if standing.get(a, VOUCHED) == VOUCHED]
    meant: list[str] = []
    for on_one in _by_source(best or called):
        least = min(standing.get(a, VOUCHED) for a in on_one)
        kept = [a for a in on_one if standing.get(a, VOUCHED) == least]
        meant += [a for a in kept if symbols[a] == text] or kept
    return Meaning(tuple(sorted(meant)), tuple(a for a in called if a not in meant))


def key_meaning(key: str, symbols: Mapping[str, str], standing: Mapping[str, int]) -> tuple[Meaning, str]:
    """What a key of a scenario means, and its name: the key without the '?' of what may be absent, unless that is its
    name."""
    found = meaning(key, symbols, standing)
    if found.assets or not key.endswith(IF_THERE):
        return found, key
    name = key.removesuffix(IF_THERE)
    return meaning(name, symbols, standing), name


def symbols_of(snap: Snapshot) -> dict[str, str]:
    """Asset id -> symbol."""
    return {asset.id: asset.symbol for asset in snap.assets.values()}


def standing(snap: Snapshot) -> Mapping[str, int]:
    """Asset id -> VOUCHED, LARGE or SMALL, for every asset of the snapshot."""
    if "standing" not in snap.memo:
        snap.memo["standing"] = _standing(snap)
    found: dict[str, int] = snap.memo["standing"]
    return found


def _standing(snap: Snapshot) -> dict[str, int]:
    vouched = _vouched(snap)
    out = {a: VOUCHED if a in vouched else LARGE for a in snap.assets}
    groups: dict[tuple[str, str], list[str]] = defaultdict(list)
    for asset in snap.assets.values():
        groups[source_of(asset.id), fold(asset.symbol)].append(asset.id)
    # whom size has to tell apart: namesakes on one chain, unless all are vouched for there
    several = [g for (source, _), g in groups.items() if len(g) > 1 and (in_book(source) or not vouched >= set(g))]
    if not several:
        return out
    lent, held = _sizes(snap, vouched)
    for group in several:
        for level in (VOUCHED, LARGE):
            on_level = [a for a in group if out[a] == level]
            size = next((s for s in (lent, held) if any(s.get(a, 0.0) > 0.0 for a in on_level)), {})
            most = max((size.get(a, 0.0) for a in on_level), default=0.0)
            if in_book(group[0]) or level != VOUCHED:
                out |= {a: SMALL for a in on_level if size.get(a, 0.0) < _LARGE_FRAC * most}
    return out


def _vouched(snap: Snapshot) -> set[str]:
    kinds = {row.market: row.kind for row in snap.rows("market")}
    backing = _backing(snap)
    out: set[str] = {USD}
    for price in snap.rows("price"):
        own = source_of(price.market) == source_of(price.asset)
        if in_book(price.asset):
            known = own and price.quote == USD and (price.market, price.asset) in backing
        else:
            listed = price.quote == USD or kinds.get(price.market) in _LISTED_KINDS
            known = not price.market or (own and listed)
        if known:
            out.add(price.asset)
    return out | {c.asset for c in snap.rows("claim") if c.kind != "lp" and not in_book(c.asset)}


def _backing(snap: Snapshot) -> set[tuple[str, str]]:
    """(market, asset) of a book that somebody owes, or has posted as collateral."""
    table, names = snap.tables["exposure"], snap.names
    sides = np.isin(table["side"], [snap.code("collateral"), snap.code("debt")])
    rows = np.flatnonzero(sides & np.array([in_book(name) for name in names], np.bool_)[table["asset"]])
    pairs = np.unique(table["market"][rows].astype(np.int64) * len(names) + table["asset"][rows]).tolist()
    return {(names[pair // len(names)], names[pair % len(names)]) for pair in pairs}


def _sizes(snap: Snapshot, vouched: set[str]) -> tuple[dict[str, float], dict[str, float]]:
    """(USD lent against or in, USD held) by asset; a value that is unknown speaks for nobody."""
    table, names, usd = snap.tables["exposure"], snap.names, np.nan_to_num(values.value_usd(snap))
    asset, account = table["asset"], table["market"].astype(np.int64) * len(names) + table["holder"]
    believed = np.array([in_book(name) or name in vouched for name in names], np.bool_)
    debt = table["side"] == snap.code("debt")
    owed, posted = debt & believed[asset], np.flatnonzero(table["side"] == snap.code("collateral"))
    borrowers, which = np.unique(account[owed], return_inverse=True)
    owes = np.append(np.bincount(which, usd[owed], len(borrowers)), 0.0)
    place = np.searchsorted(borrowers, account[posted])
    found = np.append(borrowers, -1)[place] == account[posted]
    pairs = np.unique(np.where(found, place, len(borrowers)) * len(names) + asset[posted])  # an account counts once
    lent = np.bincount(pairs % len(names), owes[pairs // len(names)], len(names))
    lent += np.bincount(asset[owed], usd[owed], len(names))
    held = np.bincount(asset[~debt], usd[~debt], len(names))
    codes = [(name, snap.code(name)) for name in snap.assets]
    return {name: float(lent[code]) for name, code in codes}, {name: float(held[code]) for name, code in codes}


def _by_source(assets: Iterable[str]) -> list[list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for asset in assets:
        groups[source_of(asset)].append(asset)
    return list(groups.values())


def _book_name(asset: str) -> str:
    return asset.partition(_BOOK_NAME)[2] if in_book(asset) else ""

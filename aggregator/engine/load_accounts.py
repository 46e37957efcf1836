"""Lending accounts of a snapshot: every one that its rule can judge, and a Gap for those it cannot.

An account is left out whole when one of its legs has no amount, no price, no term or an unknown rule, or a Gap hides
part of it: part of an account is not an account. What is left out is counted, never taken as zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from aggregator.core.rows import Gap
from aggregator.engine.book import Codes, Flags, Floats, Indices
from aggregator.engine.load_terms import TermTable
from aggregator.engine.names import Names
from aggregator.rules import get, lending
from aggregator.snapshot import Snapshot


class Accounts(NamedTuple):
    """(accounts,) market, holder, by their codes in the snapshot; leg_start, leg_term as in `Book`.

    row (legs,): where each leg stands in the exposure table.
    """

    market: Codes
    holder: Codes
    leg_start: Indices
    leg_term: Codes
    row: Indices


def accounts_of(snap: Snapshot, names: Names, terms: TermTable, units: Floats) -> tuple[Accounts, list[Gap]]:
    """units (exposures,), NaN where unknown. Fills `terms` with what the legs found need."""
    table = snap.tables["exposure"]
    debt = table["side"] == snap.code("debt")
    legs = np.flatnonzero((debt | (table["side"] == snap.code("collateral"))) & _lent(snap, names)[table["market"]])
    term = terms.codes(table, legs, debt[legs])
    counted = ~terms.idles(term)  # the rest is supply in all but name
    legs, term = legs[counted], term[counted]
    market, holder = table["market"][legs], table["holder"][legs]
    who, first, owner = np.unique(
        market.astype(np.int64) << 32 | holder.astype(np.int64), return_index=True, return_inverse=True
    )
    out = np.isin(who, _hidden(snap))
    out[owner[(term < 0) | ~np.isfinite(units[legs])]] = True
    keep = np.flatnonzero(~out[owner])
    order = keep[np.argsort(owner[keep], kind="stable")]
    counts = np.bincount(owner[order], minlength=len(first))[~out]
    found = Accounts(
        names.market_of[market[first]][~out].astype(np.int32),
        names.holder_of[holder[first]][~out].astype(np.int32),
        np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        term[order].astype(np.int32),
        legs[order],
    )
    hidden = out[owner]
    gaps = [*_left_out(snap, market[hidden], owner[hidden], terms.why), *_stray(snap), *_unknown(snap)]
    return found, sorted(gaps)


def _lent(snap: Snapshot, names: Names) -> Flags:
    """(texts of the snapshot,) whether it is a market with a lending rule."""
    rules = {row.market: row.rule for row in snap.rows("market")}
    lent = np.array([lending(rules[m]) is not None for m in names.markets] or [False], np.bool_)
    return lent[names.market_of] & (names.market_of >= 0)


def _hidden(snap: Snapshot) -> list[int]:
    """Accounts that a Gap names: market << 32 | holder, by their codes in the snapshot."""
    named = (gap.subject.partition("#") for gap in snap.gaps if gap.accounts)
    return [snap.code(market) << 32 | snap.code(holder) for market, _, holder in named if holder]


def _left_out(snap: Snapshot, market: Indices, owner: Indices, why: Mapping[str, str]) -> list[Gap]:
    """market, owner (k,) of the legs of accounts that are left out."""
    gaps = []
    for code in np.unique(market).tolist():
        name = snap.names[code]
        accounts = len(np.unique(owner[market == code]))
        gaps.append(Gap(name, "unjudged", why.get(name, "part of an account is unknown"), accounts))
    return gaps


def _stray(snap: Snapshot) -> list[Gap]:
    described = np.array([snap.code(row.market) for row in snap.rows("market")], np.int64)
    table = snap.tables["exposure"]
    gaps = []
    for code in np.setdiff1d(table["market"], described).tolist():
        held = len(np.unique(table["holder"][table["market"] == code]))
        detail = "its positions were read, but no row says what market it is"
        gaps.append(Gap(snap.names[code], "unjudged", detail, held))
    return gaps


def _unknown(snap: Snapshot) -> list[Gap]:
    holder = snap.tables["exposure"]["holder"]
    return [
        Gap(row.market, "unknown_version", f"no rule {row.rule}",
            len(np.unique(holder[snap.find("exposure", market=row.market)])))
        for row in snap.rows("market") if row.rule and get(row.rule) is None
    ]  # fmt: skip

"""Option and perpetual positions as legs of an account.

A leg is in units of the underlying (decimals the row's `exp`, always positive: its side says the sign), priced by the
market's own price of it. Its terms are the market's for that asset and the position's own: strike, strike_exp,
expiry_s, is_call of an option; size and open_notional, signed, of a perpetual.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from aggregator.core.account import Leg
from aggregator.core.fixed import Fixed
from aggregator.core.rows import OptionLeg, PerpPosition
from aggregator.snapshot.prices import own_price, usd
from aggregator.snapshot.snapshot import Snapshot

CASH = ("settlement_balance", "owed_realized_pnl", "pending_fee")  # owed to or by a trader, positions or none


def legs(
    snap: Snapshot,
    market: str,
    holder: str,
    prices: Mapping[str, Fixed],
    terms: Mapping[str, Mapping[str, int]],
) -> Iterator[Leg]:
    """Options, then perpetuals, each in the snapshot's order."""
    for row in snap.rows("option", market=market, holder=holder) if snap.tables["option"].n else []:
        own = {"strike": row.strike, "strike_exp": row.exp, "expiry_s": row.expiry_s, "is_call": int(row.right == "C")}
        yield _leg(row, row.underlying, prices, {**terms.get(row.underlying, {}), **own})
    for row in snap.rows("perp", market=market, holder=holder) if snap.tables["perp"].n else []:
        own = {"size": row.size, "open_notional": row.open_notional}
        yield _leg(row, row.asset, prices, {**terms.get(row.asset, {}), **own})


def settlement(snap: Snapshot, market: str) -> str:
    """The token in which a perp market counts its accounts, one for a dollar: that of its insurance fund or, where none
    was read, what is posted as margin without a ratio. '' where neither says, and for all other markets.

    A fact of the market: who holds none of it is counted in it all the same.
    """
    known: dict[str, str] = snap.memo.setdefault("settlement", {})
    if market not in known:
        funds = [row.asset for row in snap.rows("backstop", market=market) if row.kind == "insurance_fund"]
        rated = {term.asset for term in snap.rows("term", market=market, key="collateral_ratio_pips")}
        posted = snap.tables["exposure"]["asset"][snap.find("exposure", market=market, side="margin")]
        tokens = sorted({snap.names[code] for code in np.unique(posted).tolist()} - rated)
        perps = any(row.kind == "perp" for row in snap.rows("market", market=market))
        known[market] = next(iter([*funds, *tokens]), "") if perps else ""
    return known[market]


def mark_usd(snap: Snapshot, market: str, asset: str) -> Fixed | None:
    """Dollars of one whole perpetual: its market's own price times what the token is worth that it is counted in.

    The asset's price of the cut where nobody knows that token or the market gives no price.
    """
    own = own_price(snap, market, asset)
    found = usd(snap, settlement(snap, market) or asset) if own else usd(snap, asset)
    if found is None or own is None or not settlement(snap, market):
        return found and found[0]
    return Fixed(own.raw * found[0].raw, own.exp + found[0].exp)


def holders(snap: Snapshot) -> list[tuple[str, str]]:
    """(market, holder) of all such positions, and of cash without one, sorted, each once."""
    cash = np.isin(snap.tables["account_term"]["key"], [snap.code(key) for key in CASH]).nonzero()[0]
    pairs = set()
    for kind, places in (("option", slice(None)), ("perp", slice(None)), ("account_term", cash)):
        table = snap.tables[kind]
        held = np.stack([table["market"][places], table["holder"][places]], axis=1)
        pairs |= {(snap.names[market], snap.names[holder]) for market, holder in np.unique(held, axis=0)}
    return sorted(pairs)


def _leg(row: OptionLeg | PerpPosition, asset: str, prices: Mapping[str, Fixed], terms: Mapping[str, int]) -> Leg:
    side, amount = "long" if row.size > 0 else "short", abs(row.size)
    return Leg(asset, side, amount, amount, row.exp, prices.get(asset), terms, row.ref, row.src)

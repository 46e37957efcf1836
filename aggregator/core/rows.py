"""The row kinds that flow from adapters to the store and on.

Amounts are exact integers (`raw`, `shares`); a number with a scale carries its `exp` (value = raw * 10^-exp).
Position rows (`POSITION_KINDS`) hold what changes only when the owner acts and live from a block until a block.
All other rows belong to one cut. Every row ends with `src`, where it came from (`core.source`).

`deployment` is not a column of a row: ingest knows whose rows it is writing and the store keeps it beside them.
"""

from __future__ import annotations

from typing import NamedTuple

from aggregator.core.ids import USD

SIDES = ("supply", "collateral", "debt", "margin", "long", "short")
ROUNDINGS = ("down", "up", "half_up")


class Asset(NamedTuple):
    """decimals is -1 where the contract gives none (a Gap says so); symbol is for display alone."""

    id: str
    symbol: str
    decimals: int
    name: str = ""
    src: bytes = b""


DOLLAR = Asset(USD, "USD", 8)  # no row of a cut: what one source says of dollars would reach all others


class Market(NamedTuple):
    """Where health is judged, by `rule` (mechanism@version, e.g. aave_v3@3.6); '' for a pool or feed: nobody is judged.

    kind: lending | perp | option | amm | vault | feed | surface
    """

    market: str
    kind: str
    rule: str
    name: str
    src: bytes = b""


class Term(NamedTuple):
    """One parameter or state variable of a market: (market, asset, scope) -> key = raw * 10^-exp.

    asset is '' for the market itself; scope names a sub-unit such as emode:1, strike:3, board:1.
    Caps of an oracle on what a Price row answers: ratio, ratio_snapshot, ratio_snapshot_s, ratio_growth_per_s for an
    exchange rate, price_cap for a price (docs/engine.md).
    """

    market: str
    asset: str
    scope: str
    key: str
    raw: int  # int256
    exp: int
    src: bytes = b""


class Index(NamedTuple):
    """amount = shares * num / den, rounded as the contract rounds this side."""

    market: str
    asset: str
    side: str
    num: int  # uint256
    den: int  # uint256
    rounding: str
    src: bytes = b""


class Price(NamedTuple):
    """1 whole asset = raw * 10^-exp whole quote, as `market` sees it ('' = a reference feed for everyone).

    path: live | feed | lagged | rate | capped | constant | mark | index. updated_s: the leaf's time, 0 if none;
    heartbeat_s the age beyond which it is stale, 0 if unknown.
    """

    market: str
    asset: str
    quote: str
    raw: int  # int256: a negative answer is kept and shown, never used
    exp: int
    path: str
    updated_s: int
    heartbeat_s: int
    src: bytes = b""


class Claim(NamedTuple):
    """One raw unit of asset is a claim on num / den raw units of underlying.

    kind: receipt | vault | lp | lst | bridge. Several rows per asset are a basket. For a concentrated LP position
    (kind lp) lower and upper are its ticks and num / den holds at the cut's price only: the mix moves with the price.
    """

    asset: str
    underlying: str
    kind: str
    num: int  # uint256
    den: int  # uint256
    market: str  # where the backing sits: its write-down writes down this claim; '' if none
    lower: int = 0
    upper: int = 0
    src: bytes = b""


class Depth(NamedTuple):
    """One initialised tick of a concentrated pool, or one reserve of a constant-product pool.

    kind tick: at `point` (tick) liquidity changes by raw (int256). kind reserve: reserve raw of `asset`, which the fee
    of a swap joins. The pool's fee, spacing, current sqrt price, tick and liquidity are its Terms.
    """

    market: str
    kind: str
    asset: str
    point: int
    raw: int  # int256
    src: bytes = b""


class Backstop(NamedTuple):
    """A layer that pays before suppliers do; rank 0 pays first."""

    market: str
    kind: str
    asset: str
    rank: int
    raw: int  # uint256
    src: bytes = b""


class Total(NamedTuple):
    """The contract's own total of shares for (market, asset, side): what positions must add up to."""

    market: str
    asset: str
    side: str
    raw: int  # uint256
    src: bytes = b""


class Gap(NamedTuple):
    """What we do not know, where, why, and how large it is where that can be had.

    reason: reverted | no_price | stale_price | bad_price | unlisted_accounts | aggregate_only | unknown_version |
            bad_decimals | no_code | adapter_failed | source_failed | unread
    accounts: how many accounts it hides, -1 if unknown. value_usd: decimal string, '' if unknown.
    """

    subject: str
    reason: str
    detail: str
    accounts: int = -1
    value_usd: str = ""
    src: bytes = b""


class Exposure(NamedTuple):
    """Holder's raw shares on one side of one asset in one market; ref tells positions of one holder apart."""

    market: str
    holder: str
    ref: str
    asset: str
    side: str
    shares: int  # uint256
    src: bytes = b""


class PerpPosition(NamedTuple):
    """size and open_notional signed (int256) at `exp` places: base units, and quote units (negative for a long)."""

    market: str
    holder: str
    ref: str
    asset: str
    size: int
    open_notional: int
    exp: int
    src: bytes = b""


class OptionLeg(NamedTuple):
    """size signed (int256; long > 0) in underlying units, strike in quote units, both at `exp` places.

    right: C | P. style: european | american | perpetual. settle: the asset that pays.
    """

    market: str
    holder: str
    ref: str
    underlying: str
    quote: str
    right: str
    style: str
    settle: str
    expiry_s: int
    strike: int
    size: int
    exp: int
    src: bytes = b""


class AccountTerm(NamedTuple):
    """A property of one account that its rule needs: (market, holder, ref) key = raw (int256), e.g. emode."""

    market: str
    holder: str
    ref: str
    key: str
    raw: int
    src: bytes = b""


Row = (
    Asset | Market | Term | Index | Price | Claim | Depth | Backstop | Total | Gap
    | Exposure | PerpPosition | OptionLeg | AccountTerm
)  # fmt: skip
PositionRow = Exposure | PerpPosition | OptionLeg | AccountTerm

POSITION_KINDS: tuple[type[PositionRow], ...] = (Exposure, PerpPosition, OptionLeg, AccountTerm)
CUT_KINDS: tuple[type[Row], ...] = (Market, Term, Index, Price, Claim, Depth, Backstop, Total, Gap)

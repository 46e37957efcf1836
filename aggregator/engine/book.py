"""What the cascade runs on: one joint balance sheet as frozen columns.

Codes are positions in `assets`, `markets` and `holders`. Amounts are whole units (float64), prices USD per whole unit.
Legs of an account lie together: those of account i are `leg_start[i]:leg_start[i + 1]`. A leg's static part (oracle,
threshold, bonus) is a row of `terms`, so a leg costs twelve bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.core.rows import Gap
from aggregator.rules import FLOORED
from aggregator.rules.lyra_v1_arrays import Penalties, Shocks

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]

# what an oracle reads: the market price, the market price at the start of the previous round, the look-through value of
# a claim at par, the market price up to a cap, nothing (a constant in units of `quote`)
LIVE, LAGGED, RATE, CAPPED, CONSTANT = range(5)


class Oracles(NamedTuple):
    """(o,) columns. answer_usd = level * what it reads of `source`; CONSTANT: level * value of `quote`.

    cap_usd for CAPPED. before_usd: what a LAGGED oracle answers in the first round (NaN: the price before the blow).
    """

    path: npt.NDArray[np.int8]
    source: Codes
    level: Floats
    quote: Codes
    cap_usd: Floats
    before_usd: Floats


class Terms(NamedTuple):
    """(t,) columns; threshold, bonus and fee are 0 on the debt side. fee_frac as in `rules.Calls`.

    callable: whether a liquidator may seize or repay the leg (a paused reserve still counts, but nobody can touch it).
    """

    market: Codes
    asset: Codes
    oracle: Codes
    debt: Flags
    threshold_frac: Floats
    bonus_frac: Floats
    fee_frac: Floats
    callable: Flags


class Claims(NamedTuple):
    """(c,) rows: one whole `asset` is a claim on `rate` whole `underlying`; several rows per asset are a basket.

    market: losses of its (market, underlying) pot write the claim down; -1 for none.
    """

    asset: Codes
    underlying: Codes
    rate: Floats
    market: Codes


class Lps(NamedTuple):
    """(l,) positions in constant-product liquidity: one whole `asset` holds `liquidity` between two sqrt prices.

    sqrt prices in whole quote per whole base; lower 0 and upper inf is a constant-product share (value 2L*sqrt(p)).
    """

    asset: Codes
    base: Codes
    quote: Codes
    liquidity: Floats
    sqrt_lower: Floats
    sqrt_upper: Floats


class Pots(NamedTuple):
    """(p,) what suppliers of one asset to one market own together; bad debt of that asset falls on it.

    shock_units: lost at the blow itself (a theft, a failed issuer). reserve_units pay before suppliers do.
    """

    market: Codes
    asset: Codes
    supply_units: Floats
    reserve_units: Floats
    shock_units: Floats


class Supplies(NamedTuple):
    """(s,) who owns a pot. posted: it is collateral of its holder's account too, so its value is in the legs."""

    pot: Codes
    holder: Codes
    units: Floats
    posted: Flags


class Holdings(NamedTuple):
    """(h,) what holders own beside accounts and pots: vault shares, liquidity positions, margin."""

    holder: Codes
    asset: Codes
    units: Floats


class Options(NamedTuple):
    """(n,) European legs. size > 0 is the holder's long; prices per whole underlying in `quote`.

    right +1 call, -1 put; vol and rate per year; expiry_yr from the cut. margin: what a short has posted, in units of
    margin_asset (the underlying itself for a covered call); 0 units: not judged.
    """

    market: Codes
    holder: Codes
    underlying: Codes
    quote: Codes
    right: npt.NDArray[np.int8]
    size: Floats
    strike: Floats
    expiry_yr: Floats
    vol: Floats
    rate: Floats
    margin_asset: Codes
    margin_units: Floats


class OptionPools(NamedTuple):
    """(k,) the counterparty of every leg of a market: net assets and hedge, in whole units."""

    market: Codes
    underlying: Codes
    quote: Codes
    nav_units: Floats
    hedge_units: Floats


class Perps(NamedTuple):
    """(n,) positions; pnl = size * mark + open_notional. mark = mark_level * value of `asset`.

    live: whether its market trades; where it is halted the mark stays and nobody is closed.
    """

    account: Codes
    asset: Codes
    size: Floats
    open_notional: Floats
    mark_level: Floats
    live: Flags


class PerpAccounts(NamedTuple):
    """(m,) margin accounts; margin in USD, maintenance as a share of |size| * mark."""

    market: Codes
    holder: Codes
    margin_usd: Floats
    maintenance_frac: Floats
    penalty_frac: Floats


@dataclass(frozen=True, eq=False, slots=True)
class Pool:
    """Liquidity steps of one pool. sqrt prices in whole quote per whole base, edges rising, liquidity between them.

    One constant-product pool is one step from 0 to inf with liquidity sqrt(base * quote).
    """

    name: str
    base: int
    quote: int
    sqrt_price: float
    edges: Floats
    liquidity: Floats
    fee_frac: float = 0.0

    @classmethod
    def constant_product(
        cls, name: str, base: int, quote: int, base_units: float, quote_units: float, fee_frac: float = 0.0
    ) -> Pool:
        if not (0.0 < base_units < np.inf and 0.0 < quote_units < np.inf):
            raise DomainError(
                f"pool {name} is drained", expected="both reserves > 0", found=f"{base_units}, {quote_units}"
            )
        liquidity = np.array([np.sqrt(base_units) * np.sqrt(quote_units)])
        root = float(np.sqrt(quote_units / base_units))
        return cls(name, base, quote, root, np.array([0.0, np.inf]), liquidity, fee_frac)


def add_up(codes: npt.NDArray[Any], weights: Floats, n: int) -> Floats:
    """(n,) sums of weights by code, in their order."""
    return np.bincount(codes, weights, n).astype(np.float64, copy=False)


def is_claim(claims: Claims, lps: Lps, assets: int) -> Flags:
    """(assets,) whether an asset is worth what it is a claim on."""
    out = np.zeros(assets, np.bool_)
    out[claims.asset] = out[lps.asset] = True
    return out


_Table = TypeVar("_Table")


def table(kind: type[_Table], rows: Sequence[tuple[Any, ...]] = ()) -> _Table:
    """Rows of one of the tables above as its columns."""
    types = {"npt.NDArray[np.int8]": np.int8, "Codes": np.int32, "Floats": np.float64, "Flags": np.bool_}
    notes = [str(getattr(note, "__forward_arg__", note)) for note in kind.__annotations__.values()]
    columns: Iterable[tuple[Any, ...]] = zip(*rows, strict=True) if rows else [()] * len(notes)
    return kind(*(np.array(column, types[note]) for column, note in zip(columns, notes, strict=True)))


@dataclass(frozen=True, eq=False, slots=True)
class Book:
    """price_usd is NaN where an asset has no price of its own: a claim then is worth what it looks through to.

    cash: assets that can be sold without limit at their price (money, or depth declared unlimited).
    perp_rules: rule of each market's perps, '' or () for closing in full; insurance_usd: (market, USD in its fund).
    perp_settlement: (market, token) that the market counts one dollar each; all its own figures are in that token.
    option_shocks: (market, parameters of its margin rule); markets without them judge no short. option_fees: (market,
    what a liquidation of a short costs it), none where not given.
    close_frac: Compound v2 close factor by market; storefront_frac: Comet storePriceFactor by market, NaN elsewhere.
    shielded: markets in which nobody is called while his health is 0.95 or more (a sequencer is down at the cut).
    issuers: (asset, holder) pairs, a vault share and the account through which its vault holds its assets.
    keepers: holders that are a market's own contract; what they hold is their users', counted there.
    Of each market's rule: rule_code its place in rule_names ('' for none), judged whether there is one, floors whether
    it cuts the average threshold to basis points, absorbs whether it takes accounts whole.
    """

    assets: tuple[str, ...]
    symbols: tuple[str, ...]
    price_usd: Floats
    cash: Flags
    markets: tuple[str, ...]
    rules: tuple[str, ...]
    holders: tuple[str, ...]
    account_market: Codes
    account_holder: Codes
    leg_start: npt.NDArray[np.int64]
    leg_term: Codes
    leg_amount: Floats
    terms: Terms
    oracles: Oracles
    pools: tuple[Pool, ...] = ()
    close_frac: Floats = field(default_factory=lambda: np.zeros(0))
    storefront_frac: Floats = field(default_factory=lambda: np.zeros(0))
    shielded: Flags = field(default_factory=lambda: np.zeros(0, np.bool_))
    claims: Claims = field(default_factory=lambda: table(Claims))
    lps: Lps = field(default_factory=lambda: table(Lps))
    pots: Pots = field(default_factory=lambda: table(Pots))
    supplies: Supplies = field(default_factory=lambda: table(Supplies))
    holdings: Holdings = field(default_factory=lambda: table(Holdings))
    issuers: tuple[tuple[int, int], ...] = ()
    keepers: tuple[int, ...] = ()
    options: Options = field(default_factory=lambda: table(Options))
    option_shocks: tuple[tuple[int, Shocks], ...] = ()
    option_fees: tuple[tuple[int, Penalties], ...] = ()
    option_pools: OptionPools = field(default_factory=lambda: table(OptionPools))
    perps: Perps = field(default_factory=lambda: table(Perps))
    perp_accounts: PerpAccounts = field(default_factory=lambda: table(PerpAccounts))
    perp_rules: tuple[str, ...] = ()
    perp_settlement: tuple[tuple[int, int], ...] = ()
    insurance_usd: tuple[tuple[int, float], ...] = ()
    gaps: tuple[Gap, ...] = ()
    rule_names: tuple[str, ...] = field(init=False)
    rule_code: Codes = field(init=False)
    judged: Flags = field(init=False)
    floors: Flags = field(init=False)
    absorbs: Flags = field(init=False)

    def __post_init__(self) -> None:
        names = tuple(sorted(set(self.rules)))
        object.__setattr__(self, "rule_names", names)
        object.__setattr__(self, "rule_code", np.array([names.index(rule) for rule in self.rules], np.int32))
        object.__setattr__(self, "judged", np.array([bool(rule) for rule in self.rules], np.bool_))
        object.__setattr__(self, "floors", np.array([rule in FLOORED for rule in self.rules], np.bool_))
        object.__setattr__(self, "absorbs", np.array([r.startswith("comet@") for r in self.rules], np.bool_))
        if not self.perp_rules:
            object.__setattr__(self, "perp_rules", ("",) * len(self.markets))
        for name, size in (("close_frac", 0.5), ("storefront_frac", np.nan), ("shielded", False)):
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.full(len(self.markets), size))
        _check_numbers(self)
        _check_codes(self)

    @property
    def accounts(self) -> int:
        return len(self.account_market)

    def leg_owner(self) -> Indices:
        """(legs,) the account of each."""
        return np.repeat(np.arange(self.accounts), np.diff(self.leg_start))

    def legs_of(self, accounts: Indices) -> tuple[Indices, Indices]:
        """(position in `accounts`, leg) of all their legs, laid flat."""
        counts = self.leg_start[accounts + 1] - self.leg_start[accounts]
        owner = np.repeat(np.arange(len(accounts)), counts)
        within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
        return owner, within + self.leg_start[accounts][owner]


_MAY_BE_INFINITE = {"oracles.cap_usd", "lps.sqrt_upper"}
_MAY_BE_NAN = {"oracles.before_usd"}


def _check_numbers(book: Book) -> None:
    columns: list[tuple[str, Floats]] = [("leg_amount", book.leg_amount), ("close_frac", book.close_frac)]
    for f in fields(book):
        value = getattr(book, f.name)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            columns += [(f"{f.name}.{c}", getattr(value, c)) for c in value._fields]
    funds = np.array([usd for _, usd in book.insurance_usd], np.float64)
    columns.append(("insurance_usd", funds))
    rows = [("option_shocks", m, tuple(row)) for m, row in book.option_shocks]
    rows += [("option_fees", m, tuple(row)) for m, row in book.option_fees]
    columns += [(f"{what} of {book.markets[m]}", np.array(row, np.float64)) for what, m, row in rows]
    for name, column in columns:
        wrong = np.isnan(column) & (name not in _MAY_BE_NAN)
        if name not in _MAY_BE_INFINITE:
            wrong |= np.isinf(column)
        if wrong.any():
            _refuse(name, int(np.argmax(wrong)), "a finite number", column)
    amounts = (("leg_amount", book.leg_amount), ("pots.supply_units", book.pots.supply_units))
    for name, column in (*amounts, ("claims.rate", book.claims.rate), ("oracles.level", book.oracles.level)):
        if (column < 0.0).any():
            _refuse(name, int(np.argmax(column < 0.0)), "a number >= 0", column)
    wrong_price = (book.price_usd < 0.0) | np.isinf(book.price_usd)
    if wrong_price.any():
        at = int(np.argmax(wrong_price))
        raise DomainError(f"price of {book.assets[at]}", expected="finite, >= 0", found=repr(float(book.price_usd[at])))
    for pool in book.pools:
        numbers = np.concatenate([[pool.sqrt_price, pool.fee_frac], pool.edges[:-1], pool.liquidity])
        if not (np.isfinite(numbers).all() and pool.sqrt_price > 0.0 and (np.diff(pool.edges) > 0.0).all()):
            raise DomainError(f"pool {pool.name}", expected="finite liquidity steps, rising edges", found="other")


def _check_codes(book: Book) -> None:
    n = {"asset": len(book.assets), "market": len(book.markets), "holder": len(book.holders)}
    limits = {
        "terms.asset": n["asset"], "terms.market": n["market"], "terms.oracle": len(book.oracles.path),
        "oracles.source": n["asset"], "oracles.quote": n["asset"], "claims.asset": n["asset"],
        "claims.underlying": n["asset"], "lps.asset": n["asset"], "lps.base": n["asset"], "lps.quote": n["asset"],
        "pots.market": n["market"], "pots.asset": n["asset"], "supplies.pot": len(book.pots.market),
        "supplies.holder": n["holder"],
        "holdings.holder": n["holder"], "holdings.asset": n["asset"],
        "options.underlying": n["asset"], "options.quote": n["asset"], "options.margin_asset": n["asset"],
        "options.market": n["market"], "options.holder": n["holder"], "perps.account": len(book.perp_accounts.market),
        "perps.asset": n["asset"], "perp_accounts.market": n["market"], "perp_accounts.holder": n["holder"],
        "option_pools.market": n["market"], "option_pools.underlying": n["asset"], "option_pools.quote": n["asset"],
    }  # fmt: skip
    for name, limit in limits.items():
        table, column = name.split(".")
        _check_range(name, getattr(getattr(book, table), column), limit)
    _check_range("account_market", book.account_market, n["market"])
    _check_range("account_holder", book.account_holder, n["holder"])
    _check_range("leg_term", book.leg_term, len(book.terms.asset))
    if len(book.leg_start) != book.accounts + 1 or book.leg_start[-1] != len(book.leg_term):
        raise DomainError("leg_start does not close the legs", expected=str(len(book.leg_term)), found="other")


def _check_range(name: str, codes: npt.NDArray[np.int32], limit: int) -> None:
    wrong = (codes < 0) | (codes >= limit)
    if wrong.any():
        _refuse(name, int(np.argmax(wrong)), f"a code in [0, {limit})", codes)


def _refuse(name: str, at: int, expected: str, column: npt.NDArray[np.float64] | npt.NDArray[np.int32]) -> None:
    raise DomainError(f"{name}[{at}] is not usable", expected=expected, found=repr(column[at].item()))

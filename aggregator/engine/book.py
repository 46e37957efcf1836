"""What the cascade runs on: one joint balance sheet as frozen columns.

Codes are positions in `assets`, `markets` and `holders`. Amounts are whole units (float64), prices USD per whole unit.
Legs of an account lie together: those of account i are `leg_start[i]:leg_start[i + 1]`. A leg's static part (oracle,
threshold, bonus) is a row of `terms`, so a leg costs twelve bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.core.rows import Gap
from aggregator.engine.check import check
from aggregator.rules import lending
from aggregator.rules.lyra_v1_arrays import Penalties, Shocks

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int32]
Flags = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]

# what an oracle reads: the market price, the market price at the start of the previous round, the look-through value of
# a claim at par, the market price (but never above its cap), nothing (a constant in units of `quote`)
LIVE, LAGGED, RATE, CAPPED, CONSTANT = range(5)


class Oracles(NamedTuple):
    """(o,) columns. answer_usd = level * what it reads of `source`; CONSTANT: level * value of `quote`.

    Of whatever path, an answer is never above cap * value of `quote`: the dollar for a cap on a price, the underlying
    for a cap on an exchange rate; inf for no cap. before_usd: what a LAGGED oracle answers in the first round (NaN: the
    price before the blow).
    """

    path: npt.NDArray[np.int8]
    source: Codes
    level: Floats
    quote: Codes
    cap: Floats
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
    margin_asset (the underlying itself for a covered call); 0 units: not judged. live: whether its series trades;
    one that does not is repriced all the same, but nobody can buy it back.
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
    live: Flags


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

    One constant-product pool is one step from 0 to inf with liquidity sqrt(base * quote). fee_stays: such a pool adds
    the fee of each order to its reserves.
    """

    name: str
    base: int
    quote: int
    sqrt_price: float
    edges: Floats
    liquidity: Floats
    fee_frac: float = 0.0
    fee_stays: bool = False

    @classmethod
    def constant_product(
        cls,
        name: str,
        base: int,
        quote: int,
        base_units: float,
        quote_units: float,
        fee_frac: float = 0.0,
        *,
        fee_stays: bool = False,
    ) -> Pool:
        if not (0.0 < base_units < np.inf and 0.0 < quote_units < np.inf):
            raise DomainError(
                f"pool {name} is drained", expected="both reserves > 0", found=f"{base_units}, {quote_units}"
            )
        liquidity = np.array([np.sqrt(base_units) * np.sqrt(quote_units)])
        root = float(np.sqrt(quote_units / base_units))
        return cls(name, base, quote, root, np.array([0.0, np.inf]), liquidity, fee_frac, fee_stays)


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
    standing: of assets that share a symbol, by id (`snapshot.symbols`); those not in it are vouched for.
    Of each market's rule: rule_code its place in rule_names ('' for none), judged whether there is one, and the facts
    of `rules.LendingRule`, floors being its floors_threshold.
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
    standing: Mapping[str, int] = field(default_factory=dict)
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
    needs_every_price: Flags = field(init=False)
    gives_for_nothing: Flags = field(init=False)
    keeps_bad_debt: Flags = field(init=False)
    rate_ignores_losses: Flags = field(init=False)

    def __post_init__(self) -> None:
        names = tuple(sorted(set(self.rules)))
        object.__setattr__(self, "rule_names", names)
        object.__setattr__(self, "rule_code", np.array([names.index(rule) for rule in self.rules], np.int32))
        object.__setattr__(self, "judged", np.array([bool(rule) for rule in self.rules], np.bool_))
        lends = [lending(rule) for rule in self.rules]
        for name in ("absorbs", "needs_every_price", "gives_for_nothing", "keeps_bad_debt", "rate_ignores_losses"):
            object.__setattr__(self, name, np.array([bool(rule and getattr(rule, name)) for rule in lends], np.bool_))
        object.__setattr__(self, "floors", np.array([bool(r and r.floors_threshold) for r in lends], np.bool_))
        if not self.perp_rules:
            object.__setattr__(self, "perp_rules", ("",) * len(self.markets))
        for name, size in (("close_frac", 0.5), ("storefront_frac", np.nan), ("shielded", False)):
            if not len(getattr(self, name)):
                object.__setattr__(self, name, np.full(len(self.markets), size))
        check(self)

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

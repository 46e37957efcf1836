"""What every market's oracle answers, as a level of what it reads: by (market, asset, e-mode).

A level is taken of the very thing that the oracle reads: an exchange rate's of what the claim stands for, not of what
the claim trades at. So an answer moves with its source alone, and without a blow not at all.

An oracle of an exchange rate may be capped (`bgd-labs/aave-capo`):

    answer = min(ratio, cap) * base price,   cap = ratio_snapshot + ratio_growth_per_s * (time - ratio_snapshot_s)

by the Terms of those names at (market, asset), and `ratio` where the contract tells it; else the claim's own rate is
taken for it. A cap on a price is the Term `price_cap`, in the unit of the Price row. An oracle of path `capped` without
such Terms is taken as capped at what it answers at the cut: a claim's at that ratio, any other at that price.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from aggregator.core.account import Account, Leg
from aggregator.core.errors import DomainError
from aggregator.core.fixed import Fixed
from aggregator.core.ids import USD
from aggregator.core.rows import Gap, Term
from aggregator.engine.book import CAPPED, CONSTANT, LAGGED, LIVE, RATE, Claims, Flags, Floats, Oracles, table
from aggregator.engine.names import Names
from aggregator.snapshot import Snapshot
from aggregator.snapshot.prices import own_price

_BINDS, _SAME = 1e-9, 1e-12  # relative: an answer at its cap; one level
_PATHS = {"lagged": LAGGED, "rate": RATE, "capped": CAPPED, "constant": CONSTANT}


class OracleTable:
    """backing_usd (assets,): what one whole claim stands for at the cut; claimed (assets,): whether it is one.

    unrated: (market, asset) judged by an exchange rate that no claim row gives.
    """

    def __init__(self, snap: Snapshot, names: Names, claims: Claims, claimed: Flags, backing_usd: Floats) -> None:
        self.snap, self.names, self.claimed, self.backing_usd = snap, names, claimed, backing_usd
        self.unrated: set[tuple[str, str]] = set()
        self._rows: list[tuple[int, int, float, int, float, float]] = []
        self._base: dict[int, int] = {}  # claim on one asset alone -> that asset
        for asset, under in zip(claims.asset.tolist(), claims.underlying.tolist(), strict=True):
            self._base[asset] = -1 if asset in self._base else under

    def columns(self) -> Oracles:
        return table(Oracles, self._rows)

    def gaps(self) -> list[Gap]:
        detail = "its oracle is an exchange rate, but no claim row says of what: taken as a live feed, without any cap"
        return [Gap(market, "no_rate", f"{asset}: {detail}") for market, asset in sorted(self.unrated)]

    def code(self, account: Account, leg: Leg, judged_usd: float | None, own_unit: bool) -> int:
        """Row of the oracle that judges this leg; DomainError where no price of it is known.

        judged_usd: the price that the rule uses where that is not the market's (a category with a price of its own).
        own_unit: whether the market counts in this very asset, and so needs no price of it.
        """
        market, a, price_usd = account.market, self.names.asset[leg.asset], self.names.price_usd
        row = own_price(self.snap, market, leg.asset)
        if row is None:
            if own_unit and np.isfinite(price_usd[a]):
                return self._add(LIVE, a, 1.0, a)
            raise DomainError(f"no price for {leg.asset} in {market}", expected="a Price row of the market, in USD")
        quote = self.names.asset.get(row.quote, -1)
        if quote < 0 or not np.isfinite(price_usd[[a, quote]]).all():
            raise DomainError(f"no USD price for {leg.asset} or {row.quote}", expected="a price of both")
        in_quote = float(Fixed(row.raw, row.exp))
        if judged_usd is not None and row.quote == USD:
            in_quote = judged_usd
        path, usd = _PATHS.get(row.path, LIVE), in_quote * float(price_usd[quote])
        terms = {t.key: t for t in self.snap.rows("term", market=market, asset=leg.asset) if not t.scope}
        base = self._base.get(a, -1)
        of_ratio = "ratio_snapshot" in terms or (path == CAPPED and base >= 0 and "price_cap" not in terms)
        capped = path == CAPPED or "price_cap" in terms
        if of_ratio:
            path = RATE
        if path == RATE and not self.claimed[a]:
            self.unrated.add((market, leg.asset))
        reads = float(self.backing_usd[a] if path == RATE else price_usd[a])
        if path == CONSTANT or reads == 0.0:  # nothing follows a price of zero: it has no moves
            return self._add(CONSTANT, a, in_quote, quote)
        level = usd / reads
        if of_ratio and base >= 0:
            level, cap = _ratio_cap(terms, account.time_s, usd, reads, float(price_usd[base]))
            return self._add(path, a, level, base, cap)
        if not capped:
            return self._add(path, a, level, quote)
        cap = _number(terms["price_cap"]) if "price_cap" in terms else in_quote
        binds = in_quote >= cap * (1.0 - _BINDS)  # then the market itself is what it would answer
        return self._add(path, a, max(level, 1.0) if binds else level, quote, cap)

    def _add(self, path: int, source: int, level: float, quote: int, cap: float = np.inf) -> int:
        level = 1.0 if abs(level - 1.0) < _SAME else level
        self._rows.append((path, source, level, quote, cap, float("nan")))
        return len(self._rows) - 1


def _ratio_cap(
    terms: Mapping[str, Term], time_s: int, usd: float, backing_usd: float, base_usd: float
) -> tuple[float, float]:
    """(level of the backing without the cap, the cap in whole base asset).

    usd: the answer at the cut, for one whole claim that stands for backing_usd of an asset of base_usd. The base price
    of the oracle is the one that makes usd of its capped ratio.
    """
    own = backing_usd / base_usd
    ratio = _number(terms["ratio"]) if "ratio" in terms else own
    if "ratio_snapshot" in terms:
        grown = _number(terms["ratio_growth_per_s"]) if "ratio_growth_per_s" in terms else 0.0
        since_s = max(time_s - terms["ratio_snapshot_s"].raw, 0) if "ratio_snapshot_s" in terms else 0
        cap = _number(terms["ratio_snapshot"]) + grown * since_s
    else:
        cap = min(ratio, usd / base_usd)
    counted = min(ratio, cap)
    if counted <= 0.0:
        return usd / backing_usd, np.inf
    scale = usd / (counted * base_usd)
    return scale * ratio / own, scale * cap


def _number(term: Term) -> float:
    return float(Fixed(term.raw, term.exp))

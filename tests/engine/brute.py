"""The cascade once more, account by account on pool reserves: plain floats, no code of the engine.

Morpho Blue, Compound v2 and Comet; pools of constant product for dollars or for a deeper token; claims that are
redeemed. Sales of a token stand at one price in all its pools, found by filling them from the dearest down, at the
values their quotes had after the blow (the convention `routing`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, sqrt
from random import Random
from typing import NamedTuple

from tests.engine.worlds import World

NEXT = 0.99
STOREFRONT, CLOSE = 0.5, 0.5
Claims = dict[str, list[tuple[str, float]]]


class Reserve(NamedTuple):
    """Net of its fee: selling d brings quote * d / (base + d)."""

    quote: str
    base: float
    usd: float


@dataclass
class Pools:
    price: dict[str, float]
    of: dict[str, list[Reserve]]
    claims: Claims
    sold: dict[str, float] = field(default_factory=dict)
    paid: dict[tuple[str, int], float] = field(default_factory=dict)

    def copy(self) -> Pools:
        return Pools(self.price, self.of, self.claims, dict(self.sold), dict(self.paid))

    def root(self, asset: str) -> float:
        """Square root of the marginal price at which all that was sold stands."""
        sold, base, depth, level = self.sold.get(asset, 0.0), 0.0, 0.0, inf
        for pool in sorted(self.of[asset], key=lambda p: -p.usd / p.base):
            if depth and sqrt(pool.usd / pool.base) <= level:
                break
            base, depth = base + pool.base, depth + sqrt(pool.base * pool.usd)
            level = depth / (base + sold)
        return level

    def sell(self, asset: str, units: float) -> float:
        """USD for them."""
        if asset == "USD":
            return units
        if asset not in self.of:
            return sum(self.sell(under, units * rate) for under, rate in self.claims[asset])
        before = dict(self.paid)
        self.stand(asset, self.sold.get(asset, 0.0) + units)
        more = [
            (pool.quote, self.paid[asset, i] - before.get((asset, i), 0.0)) for i, pool in enumerate(self.of[asset])
        ]
        return sum(self.sell(quote, max(0.0, paid)) for quote, paid in more)

    def stand(self, asset: str, sold: float) -> None:
        """All that was sold of an asset, and what its pools have paid for it."""
        self.sold[asset] = sold
        root = self.root(asset)
        for i, pool in enumerate(self.of[asset]):
            part = max(0.0, sqrt(pool.base * pool.usd) / root - pool.base)
            self.paid[asset, i] = pool.usd * part / (pool.base + part) / self.price[pool.quote]

    def moved(self, asset: str) -> float:
        if asset == "USD":
            return 1.0
        now, top = self.root(asset), max(sqrt(p.usd / p.base) for p in self.of[asset])
        weight = total = 0.0
        for pool in self.of[asset]:
            high, low = (min(u, sqrt(pool.usd / pool.base)) for u in (now, now * sqrt(NEXT)))
            deep = sqrt(pool.base * pool.usd) * (1 / low - 1 / high)
            weight, total = weight + deep, total + deep * self.moved(pool.quote)
        return (now / top) ** 2 * total / weight

    def value(self, asset: str) -> float:
        if asset in self.claims:
            return sum(self.value(under) * rate for under, rate in self.claims[asset])
        return self.price[asset] * self.moved(asset)


class Market(NamedTuple):
    name: str
    rule: str
    terms: dict[str, tuple[float, float]]  # threshold and bonus by collateral


@dataclass
class Loan:
    name: str
    market: Market
    held: dict[str, float]
    debt: float
    calls: int = 0

    def health(self, value: dict[str, float]) -> float:
        limit = sum(units * value[a] * self.market.terms[a][0] for a, units in self.held.items())
        return limit / self.debt if self.debt > 0 else inf

    def offers(self, value: dict[str, float]) -> list[tuple[dict[str, float], float]]:
        """Largest calls: (units by asset, what they cost), the one of most profit first."""
        terms = self.market.terms
        if self.market.rule == "comet@1":
            cost = sum(u * value[a] * (1 - STOREFRONT * terms[a][1]) for a, u in self.held.items())
            return [(dict(self.held), cost)]
        out: list[tuple[dict[str, float], float]] = []
        for asset, units in self.held.items():
            lure = 1 + terms[asset][1]
            repaid = self.debt * (CLOSE if self.market.rule == "compound_v2@1" else 1.0)
            whole = repaid * lure >= units * value[asset]
            repaid = units * value[asset] / lure if whole else repaid
            if units > 0:
                out.append(({asset: units if whole else repaid * lure / value[asset]}, repaid))
        return sorted(out, key=lambda o: o[1] - sum(u * value[a] for a, u in o[0].items()))

    def settle(self, units: dict[str, float], cost: float, value: dict[str, float]) -> float:
        """Books a call at these values; returns what is written off."""
        self.calls += 1
        self.held = {a: u - units.get(a, 0.0) if u > units.get(a, 0.0) else 0.0 for a, u in self.held.items()}
        if self.market.rule == "comet@1":
            credit = sum(u * value[a] * (1 - self.market.terms[a][1]) for a, u in units.items())
            owed, self.debt = self.debt, 0.0
            return max(0.0, owed - credit)
        left, self.debt = max(0.0, self.debt - cost), 0.0
        if any(self.held.values()):
            self.debt = left
            return 0.0
        return left


class Drawn(NamedTuple):
    """A world before its blow, drawn at random; sizes keep WETH deeper than X and X deeper than Y."""

    price: dict[str, float]
    pools: dict[tuple[str, str], tuple[float, float]]  # USD on each side, fee
    claims: Claims
    markets: list[Market]
    loans: list[Loan]
    blow: dict[str, float]

    def world(self) -> World:
        w = World()
        for asset in ("WETH", "X", "Y"):
            w.add_asset(asset, self.price[asset])
        for (base, quote), (usd, fee) in self.pools.items():
            w.pool(f"{base}/{quote}", base, usd / self.price[base], usd / self.price[quote], quote=quote, fee=fee)
        for asset, rows in self.claims.items():
            for under, rate in rows:
                w.claim(asset, under, rate)
        for name, rule, terms in self.markets:
            for asset, (threshold, bonus) in terms.items():
                w.lending(name, rule, asset, threshold, bonus, storefront=STOREFRONT, close=CLOSE)
        for loan in self.loans:
            w.account(loan.name, loan.market.name, **loan.held, USD=loan.debt)
        return w

    def after_blow(self) -> Pools:
        """Pools stand at the new cross rates: moved along their own curve."""
        price = {a: p * (1 + self.blow.get(a, 0.0)) for a, p in self.price.items()}
        of: dict[str, list[Reserve]] = {}
        for (base, quote), (usd, fee) in self.pools.items():
            product = usd / self.price[base] * usd / self.price[quote]
            cross = price[base] / price[quote]
            row = Reserve(quote, sqrt(product / cross) / (1 - fee), sqrt(product * cross) * price[quote])
            of.setdefault(base, []).append(row)
        return Pools(price, of, self.claims)


def draw(rng: Random, accounts: int) -> Drawn:
    price = {"USD": 1.0, "WETH": 2000.0, "X": rng.choice([400.0, 1.5]), "Y": 30.0}
    deep = 10 ** rng.uniform(5, 7)
    sizes = {("WETH", "USD"): 1.0, ("X", "WETH"): rng.uniform(0.02, 0.3), ("Y", "USD"): rng.uniform(0.001, 0.004)}
    for pair, most in ((("X", "USD"), 0.2), (("Y", "X"), 0.002), (("Y", "WETH"), 0.002)):
        if rng.random() < 0.5:
            sizes[pair] = most * rng.uniform(0.1, 1.0)
    pools = {pair: (deep * size, rng.choice([0.0, 0.003, 0.01])) for pair, size in sizes.items()}
    claims: Claims = {"W": [("WETH", 1.2)], "B": [("WETH", 0.01), ("X", 0.02)]}
    worth = price | {a: sum(price[u] * r for u, r in rows) for a, rows in claims.items()}
    markets = []
    for i in range(rng.randint(1, 3)):
        rule = rng.choice(["morpho_blue@1", "compound_v2@1", "comet@1"])
        chosen = rng.sample(["WETH", "X", "Y", "W", "B"], 1 if rule == "morpho_blue@1" else rng.randint(1, 3))
        terms = {a: (round(rng.uniform(0.6, 0.9), 4), round(rng.uniform(0.02, 0.15), 4)) for a in chosen}
        markets.append(Market(f"M{i}", rule, terms))
    loans = []
    for i in range(rng.randint(1, accounts)):
        market = rng.choice(markets)
        size = {"Y": 0.003}
        held = {a: deep * size.get(a, 0.2) / worth[a] * 10 ** rng.uniform(-3, 0) for a in market.terms}
        limit = sum(u * worth[a] * market.terms[a][0] for a, u in held.items())
        loans.append(Loan(f"z{i:02}", market, held, limit * rng.uniform(0.8, 1.25)))
    blow = {a: -rng.choice([0.0, rng.uniform(0.0, 0.4)]) for a in ("WETH", "X", "Y")}
    return Drawn(price, pools, claims, markets, loans, blow)


class End(NamedTuple):
    value: dict[str, float]
    calls: dict[str, int]
    cash: float
    bad: float


def play(drawn: Drawn, *, sequential: bool) -> End:
    """The cascade without a profit test; emptied debt counts as bad at once."""
    pools, loans = drawn.after_blow(), drawn.loans
    assets = [*drawn.price, *drawn.claims]
    cash = bad = 0.0
    moving = True
    while moving:
        value, sales, moving = {a: pools.value(a) for a in assets}, dict[str, float](), False
        due = sorted((loan for loan in loans if loan.health(value) < 1), key=lambda loan: loan.health(value))
        for loan in due:
            if sequential:
                value = {a: pools.value(a) for a in assets}
            offers = loan.offers(value) if loan.health(value) < 1 else []
            if not offers:
                continue
            units, cost = offers[0]
            bad, cash, moving = bad + loan.settle(units, cost, value), cash - cost, True
            for asset, sold in units.items():
                if sequential:
                    cash += pools.sell(asset, sold)
                else:
                    sales[asset] = sales.get(asset, 0.0) + sold
        cash += sum(pools.sell(asset, sold) for asset, sold in sales.items())
    return End({a: pools.value(a) for a in assets}, {loan.name: loan.calls for loan in loans}, cash, bad)

"""A book written by hand: assets, pools, markets, accounts by name, as the answer keys give them."""

from __future__ import annotations

from typing import Any

import numpy as np

from aggregator.core.result import RoundRecord
from aggregator.core.scenario import Conventions, Scenario
from aggregator.engine import book as b
from aggregator.engine.run import Cascade, cascade
from aggregator.rules import _LENDING_BY_NAME

EVERY_RULE = tuple(sorted(_LENDING_BY_NAME))  # of lending: laws of the cascade are those of all of them
PATHS = {"live": b.LIVE, "lagged": b.LAGGED, "rate": b.RATE, "capped": b.CAPPED, "constant": b.CONSTANT}


class World:
    """Codes in order of first mention. `USD` is cash at 1."""

    def __init__(self) -> None:
        self.asset: dict[str, int] = {}
        self.price: list[float] = []
        self.cash: list[bool] = []
        self.market: dict[str, int] = {}
        self.rule: list[str] = []
        self.storefront: list[float] = []
        self.close: list[float] = []
        self.holder: dict[str, int] = {}
        self.rows: dict[str, list[tuple[Any, ...]]] = {}
        self.pools: list[b.Pool] = []
        self.accounts: dict[tuple[int, int], list[tuple[int, float]]] = {}
        self.collateral_term: dict[tuple[str, str], int] = {}
        self.issuers: list[tuple[int, int]] = []
        self.more: dict[str, Any] = {}
        self.add_asset("USD", 1.0, cash=True)

    def add_asset(self, name: str, price: float = float("nan"), *, cash: bool = False) -> int:
        if name not in self.asset:
            self.asset[name] = len(self.asset)
            self.price.append(price)
            self.cash.append(cash)
        return self.asset[name]

    def who(self, name: str) -> int:
        return self.holder.setdefault(name, len(self.holder))

    def row(self, table: str, *values: Any) -> int:
        rows = self.rows.setdefault(table, [])
        rows.append(values)
        return len(rows) - 1

    def pool(
        self, name: str, base: str, base_units: float, quote_units: float, *, quote: str = "USD", fee: float = 0.0
    ) -> World:
        self.add_asset(base, quote_units / base_units)
        codes = self.asset[base], self.asset[quote]
        self.pools.append(b.Pool.constant_product(name, *codes, base_units, quote_units, fee))
        return self

    def lending(
        self, name: str, rule: str, collateral: str, threshold: float, bonus: float, *, fee: float = 0.0,
        path: str = "live", level: float = 1.0, before: float = float("nan"),
        cap: float = float("inf"), cap_of: str = "", debt: str = "USD", supply: float | None = None,
        reserve: float = 0.0, shock: float = 0.0,
        storefront: float = float("nan"), close: float = 0.5,
    ) -> World:  # fmt: skip
        if name not in self.market:
            self.market[name] = len(self.market)
            self.rule.append(rule)
            self.storefront.append(storefront)
            self.close.append(close)
        m, c, d = self.market[name], self.asset[collateral], self.asset[debt]
        oracle = self.row("oracles", PATHS[path], c, level, self.asset[cap_of] if cap_of else d, cap, before)
        self.collateral_term[name, collateral] = self.row("terms", m, c, oracle, False, threshold, bonus, fee, True)
        if (name, debt) not in self.collateral_term:
            plain = self.row("oracles", b.LIVE, d, 1.0, d, float("inf"), float("nan"))
            self.collateral_term[name, debt] = self.row("terms", m, d, plain, True, 0.0, 0.0, 0.0, True)
        if supply is not None:
            self.row("pots", m, d, supply, reserve, shock)
        return self

    def account(self, name: str, market: str, **legs: float) -> World:
        """legs: asset = amount; the asset that the market lends is debt."""
        key = self.market[market], self.who(name)
        self.accounts.setdefault(key, []).extend((self.collateral_term[market, a], x) for a, x in legs.items())
        return self

    def claim(self, asset: str, underlying: str, rate: float, market: str = "", price: float = float("nan")) -> World:
        self.add_asset(asset, price)
        code = self.market[market] if market else -1
        self.row("claims", self.asset[asset], self.asset[underlying], rate, code)
        return self

    def supplier(self, pot: int, holder: str, units: float) -> World:
        self.row("supplies", pot, self.who(holder), units, False)
        return self

    def book(self) -> b.Book:
        kinds = {"oracles": b.Oracles, "terms": b.Terms, "claims": b.Claims, "lps": b.Lps, "pots": b.Pots,
                 "supplies": b.Supplies, "options": b.Options, "option_pools": b.OptionPools, "perps": b.Perps,
                 "perp_accounts": b.PerpAccounts}  # fmt: skip
        legs = [leg for account in self.accounts.values() for leg in account]
        counts = [len(account) for account in self.accounts.values()]
        return b.Book(
            assets=tuple(self.asset), symbols=tuple(self.asset), price_usd=np.array(self.price),
            cash=np.array(self.cash), markets=tuple(self.market), rules=tuple(self.rule), holders=tuple(self.holder),
            account_market=np.array([m for m, _ in self.accounts], np.int32),
            account_holder=np.array([h for _, h in self.accounts], np.int32),
            leg_start=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
            leg_term=np.array([t for t, _ in legs], np.int32), leg_amount=np.array([x for _, x in legs], np.float64),
            pools=tuple(self.pools), close_frac=np.array(self.close), storefront_frac=np.array(self.storefront),
            issuers=tuple(self.issuers),
            **{name: b.table(kind, self.rows.get(name, [])) for name, kind in kinds.items()}, **self.more,
        )  # fmt: skip


def conventions(rounds: str = "batch", profit: bool = False, capacity: int = 0, **more: Any) -> Conventions:
    return Conventions(rounds=rounds, profit_test=profit, capacity_accounts=capacity, **more)


def run(world: World, rules: Conventions | None = None, /, mark_loans: bool = False, **blow: Any) -> Cascade:
    return cascade(world.book(), Scenario("test", conventions=rules or conventions(), **blow), mark_loans=mark_loans)


def made(result: Cascade) -> list[RoundRecord]:
    return [r for r in result.rounds if r.liquidations]


def by_name(result: Cascade, column: np.ndarray[Any, Any]) -> dict[str, float]:
    names = [result.book.holders[h] for h in result.book.account_holder]
    return dict(zip(names, column.tolist(), strict=True))


def left(result: Cascade, *, debt: bool) -> dict[str, float]:
    owner = np.repeat(np.arange(result.book.accounts), np.diff(result.book.leg_start))
    chosen = result.book.terms.debt[result.book.leg_term] == debt
    return by_name(result, np.bincount(owner, np.where(chosen, result.state.amount, 0.0), result.book.accounts))


def price(result: Cascade, asset: str = "X") -> float:
    return float(result.state.value_usd[result.book.assets.index(asset)])

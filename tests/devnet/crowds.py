"""Who lives in a world: seeded users of each protocol, of every kind that has ever broken an accounting.

Amounts are drawn log-uniformly, from a few smallest units to billions of dollars. Nothing here may revert: a draw
that the contract would refuse is not made, so a Reverted is a bug of the kit.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from tests.devnet.aave import Aave, EMode
from tests.devnet.anvil import Tx
from tests.devnet.morpho import Market, Morpho
from tests.devnet.tokens import UINT256_MAX, Asset
from tests.devnet.uniswap import Uniswap

KINDS = (
    "edge", "multi", "emode", "drowned", "whale", "dust", "no_debt", "repaid", "unpledged", "gone", "edge", "emode",
    "tiny_debt", "drowned",
)  # fmt: skip
DEEP_USD = 2e10


def lend_deep(market: Aave, lender: str) -> None:
    """Liquidity for whatever the others borrow."""
    for reserve in market.reserves.values():
        if reserve.borrowable:
            market.supply(lender, reserve.asset.symbol, reserve.asset.worth(DEEP_USD))


def bulk_borrowers(market: Aave, users: Sequence[str], chunk: int = 250) -> None:
    """Every user supplies 10 WETH and borrows between 3,000 and 14,999 USDC, many users to a block."""
    chain, weth, usdc = market.chain, market.asset("WETH"), market.asset("USDC")
    chain.fund(*users)
    raw = weth.raw(10)
    mints = [Tx(chain.owner, weth.address, weth.token.encode("mint", u, raw), 100_000) for u in users]
    chain.send_all(mints, chunk)
    approve = weth.token.encode("approve", market.pool, UINT256_MAX)
    actions = []
    for i, user in enumerate(users):
        debt = usdc.raw(3_000 + i * 7 % 12_000)
        supply = market.pool.encode("supply", weth.address, raw, user, 0)
        borrow = market.pool.encode("borrow", usdc.address, debt, 2, 0, user)
        actions.append(Tx(user, weth.address, approve, 100_000))
        actions += [Tx(user, market.pool.address, data) for data in (supply, borrow)]
    chain.send_all(actions, 3 * chunk)


class AavePeople:
    """Users of one Aave market; the kind of user i is `KINDS[i % len(KINDS)]`.

    "edge" borrows USDC to the limit against WETH or WBTC; "drowned" against `fragile`, the asset that will crash.
    """

    def __init__(self, market: Aave, rng: random.Random, fragile: str) -> None:
        self._market = market
        self._rng = rng
        self._fragile = fragile
        self._pledgeable = [s for s, r in market.reserves.items() if r.threshold_bps]
        self._borrowable = [s for s, r in market.reserves.items() if r.borrowable]

    def arrive(self, users: Sequence[str], emodes: Sequence[EMode]) -> None:
        for i, user in enumerate(users):
            self._arrive(user, KINDS[i % len(KINDS)], self._rng.choice(emodes))

    def _arrive(self, user: str, kind: str, emode: EMode) -> None:
        pledgeable, borrowable = self._pledgeable, self._borrowable
        if kind == "emode":
            self._market.set_emode(user, emode.id)
            pledgeable, borrowable = list(emode.collateral), list(emode.borrowable or emode.collateral)
        elif kind == "edge":
            pledgeable, borrowable = ["WETH", "WBTC"], ["USDC"]
        elif kind == "drowned":
            pledgeable, borrowable = [self._fragile], ["USDC"]
        count = self._rng.randint(2, len(pledgeable)) if kind in ("multi", "unpledged") else 1
        for symbol in self._rng.sample(pledgeable, count):
            self._market.supply(user, symbol, self._amount(self._market.asset(symbol), kind))
        if kind == "no_debt":
            return
        for symbol in self._rng.sample(borrowable, min(len(borrowable), 3 if kind == "multi" else 1)):
            self._borrow(user, symbol, kind)
        if kind == "unpledged":
            self._unpledge(user)

    def _amount(self, asset: Asset, kind: str) -> int:
        low, high = {"dust": (0.01, 5), "whale": (5e7, 5e8)}.get(kind, (1e3, 5e5))
        raw = asset.worth(log_uniform(self._rng, low, high))
        return max(raw + self._rng.randrange(1_000), 1_000)

    def _borrow(self, user: str, symbol: str, kind: str) -> None:
        asset = self._market.asset(symbol)
        room = self._market.account(user).available_usd_e8 * 10**asset.decimals // asset.price_usd_e8
        share = self._rng.uniform(0.985, 0.998) if kind in ("edge", "emode", "drowned") else self._rng.uniform(0.1, 0.6)
        raw = self._rng.randint(2, 900) if kind == "tiny_debt" else int(room * share)
        if 2 <= raw < room:
            self._market.borrow(user, symbol, raw)

    def _unpledge(self, user: str) -> None:
        """Switch off the first collateral that the user can do without; tokens that stay supplied earn only."""
        for symbol in self._pledgeable:
            worth = self._market.supplied(user, symbol) * self._market.asset(symbol).price_usd_e8
            account = self._market.account(user)
            spare = account.available_usd_e8 * 10 ** self._market.asset(symbol).decimals // 2
            if 0 < worth < spare:
                self._market.use_as_collateral(user, symbol, False)
                return

    def live_on(self, users: Sequence[str]) -> None:
        """Later acts: debts repaid whole, positions closed, receipt tokens moved to the next account."""
        for i, user in enumerate(users):
            kind = KINDS[i % len(KINDS)]
            if kind in ("repaid", "gone"):
                self._repay_all(user)
            if kind == "gone":
                for symbol in self._held(user):
                    self._market.withdraw(user, symbol)
            if kind == "no_debt":
                for symbol in self._held(user):
                    part = self._market.supplied(user, symbol) // 3
                    self._market.a_token(symbol).send("transfer", users[(i + 1) % len(users)], part, sender=user)
            if kind == "multi":
                self._borrow(user, self._rng.choice(self._borrowable), "multi")

    def _repay_all(self, user: str) -> None:
        for symbol in self._borrowable:
            owed = self._market.owed(user, symbol)
            if owed:
                self._market.asset(symbol).mint(user, owed // 100 + 100)  # interest of the blocks until then
                self._market.repay(user, symbol)

    def _held(self, user: str) -> list[str]:
        return [s for s in self._market.reserves if self._market.supplied(user, s)]

    def liquidate_some(self, users: Sequence[str], liquidator: str) -> None:
        """Of the unhealthy of each kind, liquidate the first, leave the second, and so on."""
        seen: Counter[str] = Counter()
        for i, user in enumerate(users):
            if self._market.account(user).health_e18 >= 10**18:
                continue
            kind = KINDS[i % len(KINDS)]
            seen[kind] += 1
            if seen[kind] % 2:
                collateral = max((self._worth(user, s), s) for s in self._held(user))[1]
                debt = max((self._market.owed(user, s) * self._unit_price(s), s) for s in self._borrowable)[1]
                self._market.liquidate(liquidator, user, collateral, debt)

    def _worth(self, user: str, symbol: str) -> float:
        return self._market.supplied(user, symbol) * self._unit_price(symbol)

    def _unit_price(self, symbol: str) -> float:
        asset = self._market.asset(symbol)
        return asset.price_usd_e8 / float(10**asset.decimals)


class MorphoPeople:
    """Lenders, borrowers, and holders of idle collateral in every market that is not called idle."""

    def __init__(self, morpho: Morpho, rng: random.Random) -> None:
        self._morpho = morpho
        self._rng = rng

    def arrive(self, users: Sequence[str], lender: str) -> None:
        for name, market in self._morpho.markets.items():
            if "idle" in name:
                continue
            self._morpho.supply(lender, market, market.loan.worth(3e6))
            for i, user in enumerate(users):
                match i % 5:
                    case 0 | 1 | 2:
                        self._borrower(user, market, edge=i % 5 == 0)
                    case 3:
                        self._morpho.supply(user, market, market.loan.worth(log_uniform(self._rng, 1, 1e5)) + 1)
                    case 4:
                        self._morpho.supply_collateral(user, market, 1 + self._rng.randint(1, 10**6) // 10 ** (i % 7))

    def _borrower(self, user: str, market: Market, edge: bool) -> None:
        usd = log_uniform(self._rng, 5, 2e5)
        raw = market.collateral.worth(usd) + self._rng.randrange(1_000)
        self._morpho.supply_collateral(user, market, raw)
        limit = raw * market.oracle.call("price") // 10**36 * market.lltv_e18 // 10**18
        share = self._rng.uniform(0.985, 0.999) if edge else self._rng.uniform(0.2, 0.7)
        debt = int(limit * share)
        if debt > 1:
            self._morpho.borrow(user, market, debt)

    def liquidate_some(self, liquidator: str) -> None:
        """In each market one unhealthy position goes half, one whole; the rest stay."""
        for market in self._morpho.markets.values():
            self._morpho.accrue(market)
            unhealthy = [u for u in self._borrowers(market) if not self._healthy(market, u)]
            if unhealthy:
                half = self._morpho.position(market, unhealthy[0]).borrow_shares // 2
                self._morpho.liquidate(liquidator, market, unhealthy[0], shares=half)
            if len(unhealthy) > 1:
                everything = self._morpho.position(market, unhealthy[1]).collateral
                if self._owed_e36(market, unhealthy[1]) > everything * market.oracle.call("price"):
                    self._morpho.liquidate(liquidator, market, unhealthy[1], seize=everything)

    def _owed_e36(self, market: Market, user: str) -> int:
        return self._morpho.owed(market, user) * 10**36

    def _healthy(self, market: Market, user: str) -> bool:
        limit: int = self._morpho.position(market, user).collateral * market.oracle.call("price") // 10**36
        return self._morpho.owed(market, user) <= limit * market.lltv_e18 // 10**18

    def _borrowers(self, market: Market) -> list[str]:
        contract = self._morpho.contract
        events = contract.events(contract.chain.logs(address=contract.address), "Borrow")
        return sorted({e["onBehalf"] for e in events if e["id"].hex() == market.id[2:]})


def provide_liquidity(uniswap: Uniswap, users: Sequence[str], rng: random.Random) -> None:
    """Deep and shallow, wide and narrow, out of range, partly withdrawn, and wholly withdrawn positions; then trade."""
    whale = uniswap.chain.accounts[5]
    for pool in uniswap.pools.values():
        uniswap.add_liquidity(whale, pool, 0.2, 5, 2e7)
        for i, user in enumerate(users[::2]):
            low = rng.uniform(0.7, 1.02)
            made = uniswap.add_liquidity(user, pool, low, low + rng.uniform(0.03, 0.6), log_uniform(rng, 10, 1e6))
            if i % 4 == 1:
                part = made.liquidity if i % 8 == 1 else made.liquidity // 3
                uniswap.remove_liquidity(user, made.token_id, part)
        for _ in range(3):
            sell = rng.choice((pool.token0, pool.token1))
            uniswap.swap(whale, pool, sell, sell.worth(log_uniform(rng, 1e3, 2e6)))


def log_uniform(rng: random.Random, low: float, high: float) -> float:
    return float(low * (high / low) ** rng.random())

"""Who trades options and perpetuals in a world. As in `crowds`, nothing here may revert."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from tests.devnet.crowds import log_uniform
from tests.devnet.lyra import Lyra, OptionType
from tests.devnet.lyra_params import e18
from tests.devnet.perp import Perp


class LyraPeople:
    """Traders of one option market; user i opens option type i % 5, some of them more than one position."""

    def __init__(self, lyra: Lyra, rng: random.Random) -> None:
        self._lyra = lyra
        self._rng = rng
        self.positions: list[int] = []

    def arrive(self, users: Sequence[str]) -> None:
        """Open positions, on strikes inside the market's delta limits."""
        for i, user in enumerate(users):
            for _ in range(1 + i % 3 // 2):
                self.positions.append(self._open(user, OptionType(i % 5)))

    def close_some(self) -> None:
        """In part or whole."""
        for position in self.positions[3::6]:
            self._close(position, 1)
        for position in self.positions[5::6]:
            self._close(position, 0.25)

    def overreach(self, users: Sequence[str]) -> None:
        """Write puts with nothing to spare, so that a fall of the spot makes them liquidatable."""
        strike = self._lyra.strikes(self._lyra.boards()[-1])[1]
        kind, amount = OptionType.SHORT_PUT_QUOTE, 2.5
        for user in users:
            least = self._lyra.min_collateral(strike, kind, e18(amount)) / 1e18
            self.positions.append(self._lyra.open(user, strike, kind, amount, round(least + 0.01, 6)))

    def _open(self, user: str, kind: OptionType) -> int:
        strike = self._rng.choice(self._tradable())
        amount = round(log_uniform(self._rng, 0.05, 15), 3)
        return self._lyra.open(user, strike, kind, amount, self._collateral(strike, kind, amount))

    def _collateral(self, strike: int, kind: OptionType, amount: float) -> float:
        """Between just enough and twice that, but no more than the position could ever lose."""
        if kind <= OptionType.LONG_PUT:
            return 0
        least = self._lyra.min_collateral(strike, kind, e18(amount)) / 1e18
        wanted = least * self._rng.choice((1.002, 1.002, 1.3, 2)) + 1e-6
        price = self._lyra.market.call("getStrike", strike)[1] / 1e18
        most = {OptionType.SHORT_CALL_BASE: amount, OptionType.SHORT_PUT_QUOTE: amount * price}.get(kind, wanted)
        return float(f"{max(min(wanted, most), least):.6f}") + (0 if least < most else 1e-6)

    def _tradable(self) -> list[int]:
        lyra = self._lyra
        strikes = [s for board in lyra.boards() for s in lyra.strikes(board)]
        return [s for s in strikes if 0.25e18 < lyra.greeks(s).call_delta < 0.75e18]

    def _close(self, position: int, share: float) -> None:
        held = self._lyra.position(position)
        delta = self._lyra.greeks(held.strike_id).call_delta
        if 0.2e18 < delta < 0.8e18:
            keep = 0 if share == 1 else held.collateral_e18 / 1e18
            self._lyra.close(position, held.amount_e18 / 1e18 if share == 1 else share * held.amount_e18 / 1e18, keep)

    def settle_some(self, board: int) -> None:
        """After a board's expiry: the board is settled, and of its positions every second one is paid out."""
        strikes = set(self._lyra.strikes(board))
        self._lyra.settle_board(board)
        of_board = [p for p in self._open_ids() if self._lyra.position(p).strike_id in strikes]
        for position in of_board[::2]:
            self._lyra.settle(position)

    def liquidate_some(self, liquidator: str) -> None:
        """The first of those that can be; the others stay so."""
        live = {s for b in self._lyra.boards() for s in self._lyra.strikes(b)}
        open_ids = [p for p in self._open_ids() if self._lyra.position(p).strike_id in live]
        for position in [p for p in open_ids if self._lyra.can_be_liquidated(p)][:1]:
            self._lyra.liquidate(position, liquidator)

    def _open_ids(self) -> list[int]:
        token = self._lyra.option_token
        return [p for p in self.positions if token.read("positions", p)["state"] == 1]


class PerpPeople:
    """Takers both ways at every leverage, makers, collateral without a position, closed positions."""

    def __init__(self, perp: Perp, rng: random.Random) -> None:
        self._perp = perp
        self._rng = rng

    def arrive(self, users: Sequence[str], maker: str, depth_usd: float = 1e7) -> None:
        """depth_usd: what the maker puts on each side of every market."""
        self._perp.deposit(maker, 4 * depth_usd)
        for symbol, base in self._perp.bases.items():
            price = base.feed.call("latestAnswer") / 1e8
            self._perp.make(maker, symbol, depth_usd / price, depth_usd, price / 2, price * 2)
        for i, user in enumerate(users):
            self._arrive(user, i)

    def _arrive(self, user: str, i: int) -> None:
        symbols = sorted(self._perp.bases)
        symbol = symbols[i % len(symbols)]
        stake = round(log_uniform(self._rng, 50, 20_000), 6)
        self._perp.deposit(user, stake)
        match i % 7:
            case 5:
                self._make(user, symbol, stake)
            case 6:
                return
            case 4:
                self._perp.trade(user, symbol, stake)
                self._perp.close(user, symbol)
            case 3:
                for each, sign in zip(symbols, (1, -1), strict=True):
                    self._perp.trade(user, each, sign * stake * self._rng.uniform(0.5, 3))
            case _:
                leverage = 8.8 if i % 7 == 0 else self._rng.uniform(0.5, 6)
                self._perp.trade(user, symbol, stake * leverage * (-1 if i % 7 == 1 else 1))

    def _make(self, user: str, symbol: str, stake: float) -> None:
        price = self._perp.bases[symbol].feed.call("latestAnswer") / 1e8
        spread = self._rng.uniform(1.05, 1.6)
        self._perp.make(user, symbol, stake * 2 / price, stake * 2, price / spread, price * spread)

    def arbitrage(self, trader: str) -> None:
        """Bring every mark price back to its feed."""
        for symbol in sorted(self._perp.bases):
            self._perp.follow_feed(trader, symbol)

    def fall(self, trader: str, prices: Mapping[str, float], steps: int = 4) -> None:
        """Feeds go to `prices` in steps; the marks and, with time, the averages follow."""
        start = {s: b.feed.call("latestAnswer") / 1e8 for s, b in self._perp.bases.items()}
        for step in range(1, steps + 1):
            for symbol, end in prices.items():
                self._perp.set_index(symbol, start[symbol] + (end - start[symbol]) * step / steps)
            self.arbitrage(trader)
            self._perp.advance(900)

    def liquidate_some(self, users: Sequence[str], liquidator: str) -> None:
        """Every second one that can be."""
        self._perp.deposit(liquidator, 1e6)
        takers = [u for u in users if not self._perp.has_orders(u)]
        for user in [u for u in takers if self._perp.can_be_liquidated(u)][::2]:
            symbol = max((abs(self._perp.size(user, s)), s) for s in self._perp.bases)[1]
            self._perp.liquidate(liquidator, user, symbol)

"""Conservation: what every sector is worth against what price changes alone should have made of it, round by round."""

from __future__ import annotations

import numpy as np

from aggregator.engine.derivatives import Derivatives
from aggregator.engine.state import SECTORS, State


class Audit:
    """Made after the blow; `open` before the first round, `close` after each."""

    def __init__(self, state: State, extra: Derivatives) -> None:
        self.state, self.extra = state, extra
        self.start, self.units = state.sectors(), state.units_total()
        self.largest_error_usd = 0.0

    def open(self) -> None:
        self.opened, self.opened_usd = self.state.sectors(), self.state.value_usd

    def close(self) -> float:
        """USD by which net worth strayed from units times price change, and units that appeared or vanished."""
        before, before_usd = self.opened, self.opened_usd
        self.open()
        marked = float((self.units * (self.opened_usd - before_usd)).sum())
        change = sum(self.opened[s] - before[s] for s in SECTORS) - marked
        error = abs(change) + float((np.abs(self.state.units_total() - self.units) * before_usd).sum())
        error += self.extra.balances(self.state.value_usd)["derivatives_error_usd"]
        self.largest_error_usd = max(self.largest_error_usd, error)
        return error

    def changes(self) -> dict[str, float]:
        """Change since the blow, USD, as `Cascade.conservation`."""
        end, value = self.state.sectors(), self.state.value_usd
        changes = {s: end[s] - self.start[s] for s in SECTORS}
        changes["total"] = float(sum(changes[s] for s in SECTORS))
        changes["units_times_price_change"] = float((self.units * (value - self.state.blow_usd)).sum())
        return changes | self.extra.balances(value) | {"largest_round_error": self.largest_error_usd}

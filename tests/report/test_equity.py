"""What a report says a wallet is worth at the cut is what the wallet itself adds up to, options and perps included."""

from __future__ import annotations

from decimal import Decimal

import pytest

from aggregator.app.demo import Demo
from aggregator.app.wiring import App


def test_equity_before_is_the_sum_of_a_wallets_exact_legs(demo: Demo) -> None:
    """A perp account is worth its margin and what its positions have made; its legs are notional."""
    found = {wallet["holder"]: wallet for wallet in demo.summary["wallets"]}
    writers = 0
    with App.open(demo.config) as app:
        for holder, told in found.items():
            worth = Decimal(0)
            for position in app.wallet(holder)["positions"]:
                if position["kind"] == "perp":
                    worth += Decimal(position["collateral_usd"])
                    continue
                writers += position["kind"] == "option"
                for leg in position["legs"]:
                    worth += Decimal(leg["value_usd"]) * (-1 if leg["side"] == "debt" else 1)
            assert told["equity_before_usd"] == pytest.approx(float(worth), rel=1e-6, abs=0.01), holder
    assert writers > 5

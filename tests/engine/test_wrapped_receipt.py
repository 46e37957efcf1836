"""A loss reaches a vault once, whichever way the vault lends: through the receipt it holds, or on its own account."""

from __future__ import annotations

import pytest

from tests.engine.worlds import World, run


def _world(through_receipt: bool) -> World:
    """100 lent out of 1,000 supplied; the vault has a fifth of the supply, its 200 shares are claims on 200 cash."""
    world = World()
    world.pool("POOL", "COIN", 1e9, 1e9)
    world.lending("LEND", "morpho_blue@1", "COIN", 0.86, 0.04, supply=1_000.0)
    world.account("borrower", "LEND", COIN=125.0, USD=100.0)
    world.supplier(0, "vault", 200.0)
    if through_receipt:
        world.claim("RECEIPT", "USD", 1.0, market="LEND")
    world.claim("SHARE", "RECEIPT" if through_receipt else "USD", 1.0)
    world.issuers.append((world.asset["SHARE"], world.holder["vault"]))
    return world


@pytest.mark.parametrize("through_receipt", [False, True])
def test_a_vault_bears_the_loss_of_its_supply_once(through_receipt: bool) -> None:
    result = run(_world(through_receipt), price={"COIN": -0.5})
    lost = result.state.lost_frac[0]
    assert lost == pytest.approx((100.0 - 62.5 / 1.04) / 1_000.0, rel=1e-12)
    share = result.book.assets.index("SHARE")
    assert result.state.value_usd[share] == pytest.approx(1.0 - lost, rel=1e-12)

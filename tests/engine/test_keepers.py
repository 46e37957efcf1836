"""A contract that keeps what others own is nobody who loses: its users are, and each loss is one holder's."""

from __future__ import annotations

import pytest

from aggregator.app.demo import Demo
from aggregator.app.wiring import App
from aggregator.core.ids import adapter_of
from aggregator.snapshot import Snapshot

MORPHO = "morpho_blue"


@pytest.fixture(scope="module")
def snap(demo: Demo) -> Snapshot:
    with App.open(demo.config) as app:
        return app.snapshot()


def test_what_morpho_holds_is_its_borrowers_collateral_and_lost_by_them_alone(snap: Snapshot, demo: Demo) -> None:
    """One contract holds the collateral of all markets: its vault shares equal the sum of theirs, to the last unit."""
    (morpho,) = {row.holder for row in snap.rows("exposure") if adapter_of(row.market) == "erc4626"} & _asked(snap)
    kept = {row.asset: row.shares for row in snap.rows("exposure", holder=morpho)}
    assert kept
    for asset, shares in kept.items():
        theirs = [row for row in snap.rows("exposure", asset=asset, side="collateral") if row.holder != morpho]
        assert sum(row.shares for row in theirs if adapter_of(row.market) == MORPHO) == shares
    assert morpho not in {loss["node"] for loss in demo.summary["losses"]}
    assert morpho not in {wallet["holder"] for wallet in demo.summary["wallets"]}


def _asked(snap: Snapshot) -> set[str]:
    """Morpho's address: the contract that its markets' parameters are read from."""
    return {"0x" + row.src[2:22].hex() for row in snap.rows("term") if adapter_of(row.market) == MORPHO}

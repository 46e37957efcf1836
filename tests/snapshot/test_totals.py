"""Accounts that no log named are missing from the positions, not from the contract's totals."""

from __future__ import annotations

import pytest

from aggregator.core.rows import Exposure, Gap, Index, Row, Total
from aggregator.snapshot.coverage import coverage, hidden_frac
from aggregator.snapshot.totals import reconcile
from tests.snapshot.world import ODD, POOL, POOL_ROWS, RAY, USDC, VAULT, WETH, freeze

SUPPLIED, OWED = 10**18 + 6, 10**9 + 1  # what POOL_ROWS list
WHOLE = [Total(POOL, WETH, "supply", SUPPLIED), Total(POOL, USDC, "debt", OWED)]
SUPPLY = Index(POOL, WETH, "supply", RAY + RAY // 3, RAY, "down")


def test_totals_that_positions_add_up_to_leave_no_gap() -> None:
    snap = freeze([*POOL_ROWS, SUPPLY, *WHOLE])
    assert [line.positions - line.contract for line in reconcile(snap)] == [0, 0]
    assert list(snap.gaps) == []
    assert [line.level for line in coverage(snap)] == ["full"]


@pytest.mark.parametrize(
    ("total", "worth"),
    [
        (Total(POOL, WETH, "supply", SUPPLIED + 3 * 10**18), "7999.99"),  # x just below 4/3 x 2,000 USD
        (Total(POOL, USDC, "debt", OWED + 1), "0.00"),
        (Total(POOL, VAULT, "supply", 5), ""),  # without index and price
    ],
)
def test_what_a_contract_knows_of_beyond_its_listed_accounts_is_a_gap_with_its_size(total: Total, worth: str) -> None:
    snap = freeze([*POOL_ROWS, SUPPLY, total])
    (gap,) = snap.gaps
    assert (gap.subject, gap.reason, gap.accounts, gap.value_usd) == (POOL, "unlisted_accounts", -1, worth)
    assert total.asset in gap.detail
    assert [line.level for line in coverage(snap)] == ["partial"]
    assert hidden_frac(snap) > 0


def test_an_account_that_could_not_be_read_is_told_of_once() -> None:
    told = Gap(f"{POOL}#0xdd", "reverted", "balanceOf", 1)
    snap = freeze([*POOL_ROWS, SUPPLY, Total(POOL, WETH, "supply", SUPPLIED + 1), told])
    assert list(snap.gaps) == [told]


def test_positions_above_the_total_are_no_missing_accounts() -> None:
    rows: list[Row] = [*POOL_ROWS, SUPPLY, Total(POOL, WETH, "supply", SUPPLIED - 1)]
    rows += [Exposure(POOL, "0xdd", "", ODD, "supply", 0)]
    assert "unlisted_accounts" not in {gap.reason for gap in freeze(rows).gaps}

"""Lyra's settlement where its contracts differ by version; figures by hand from the contract's order of operations.

Source: derivexyz/v1-core ea9e36a ShortCollateral.settleOptions: longs are paid (price - strike) on
amount.multiplyDecimal(longScaleFactor), each product floored at 18 places; shorts are never scaled.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.core.account import Account, Leg
from aggregator.core.fixed import WAD, Fixed
from aggregator.rules import CannotJudgeError
from aggregator.rules.lyra_v1 import Fees, LyraV1, Settlement
from aggregator.rules.lyra_v1_arrays import Penalties, Split, fees

RULE, STRIKE = LyraV1(), 2_000 * WAD
SCOPE = f"series:1700000000:{STRIKE}"


def settle(side: str, call: bool, amount: int, end: int, **terms: int) -> Settlement:
    own = {"strike": STRIKE, "strike_exp": 18, "expiry_s": 1_700_000_000, "is_call": int(call)}
    if end:
        own[f"{SCOPE}:price_at_expiry"] = end
    own |= {f"{SCOPE}:{key}": raw for key, raw in terms.items()}
    legs = [Leg("base", side, amount, amount, 18, Fixed(end or WAD, 18), own, "1")]
    if side == "short":
        legs.append(Leg("quote", "margin", 5_000 * WAD, 5_000 * WAD, 18, None, {}, "1"))
    (position,) = RULE.positions(Account("m", "h", RULE.name, tuple(legs), {}, {}, 1_700_000_001))
    return RULE.settle(position)


@pytest.mark.parametrize(("call", "end"), [(True, 2_300 * WAD), (False, 1_700 * WAD)])
def test_an_insolvent_newport_pool_scales_longs_and_no_short(call: bool, end: int) -> None:
    amount = 3 * WAD + 1
    assert settle("long", call, amount, end) == (900 * WAD + 300, 0)  # Avalon knows no factor
    assert settle("long", call, amount, end, long_scale_factor=WAD) == (900 * WAD + 300, 0)
    # 3.000000000000000001 * 0.7 is floored to 2.1 before it meets the 300 that the option is worth
    assert settle("long", call, amount, end, long_scale_factor=7 * WAD // 10) == (630 * WAD, 0)
    owed = 900 * WAD + 300
    assert settle("short", call, amount, end, long_scale_factor=7 * WAD // 10) == (5_000 * WAD - owed, 0)


def test_a_pool_that_has_nothing_pays_nothing() -> None:
    assert settle("long", True, WAD, 2_300 * WAD, long_scale_factor=0) == (0, 0)


def test_before_its_board_is_settled_a_position_has_no_settlement() -> None:
    with pytest.raises(CannotJudgeError, match="price_at_expiry"):
        settle("long", True, WAD, 0)


def exact_fees(premium: float, held: float, spot: float, base: bool, penalties: Penalties) -> Fees:
    keys = ("penalty_ratio", "liquidator_fee_ratio", "sm_fee_ratio", "min_liquidation_fee")
    terms = {key: round(value * WAD) for key, value in zip(keys, penalties, strict=True)}
    own = {"strike": STRIKE, "strike_exp": 18, "expiry_s": 1_700_000_000, "is_call": 1}
    leg = Leg("base", "short", WAD, WAD, 18, Fixed(round(spot * WAD), 18), own, "1")
    raw = round(held * WAD)
    margin = Leg("base" if base else "quote", "margin", raw, raw, 18, None, {}, "1")
    account = Account("m", "h", RULE.name, (leg, margin), terms, {}, 0)
    (position,) = RULE.positions(account)
    return RULE.fees(account, position, round(premium * WAD))


@settings(max_examples=300)
@given(st.floats(0, 50), st.floats(0, 100), st.floats(0.01, 5_000), st.booleans(), st.floats(0, 1), st.floats(0, 0.5),
       st.floats(0, 0.5), st.floats(0, 60))  # fmt: skip
def test_the_array_fees_are_the_exact_ones(
    premium: float, held: float, spot: float, base: bool, penalty: float, keeper: float, module: float, least: float
) -> None:
    penalties = Penalties(penalty, keeper, module, least)
    said = exact_fees(premium, held, spot, base, penalties)
    split: Split = fees(premium, held, spot if base else 1.0, penalties)
    unit = 1e-12 * (1 + held + premium + least / (spot if base else 1.0))
    edge = min(abs(held - premium - least / (spot if base else 1.0)), abs(held - least / (spot if base else 1.0)))
    if edge <= unit:
        return  # the last digit decides between the branches
    parts = (said.returned, said.lp_premiums + said.lp_fee, said.liquidator_fee, said.sm_fee)
    assert [float(x[0]) for x in split[:4]] == [pytest.approx(x / WAD, rel=1e-9, abs=unit) for x in parts]
    assert float(split.insolvent[0]) == pytest.approx(said.insolvent / WAD, rel=1e-9, abs=unit * max(spot, 1.0))
    assert float(np.sum(split[:4])) == pytest.approx(held, rel=1e-12, abs=1e-300)

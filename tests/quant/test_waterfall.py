"""Who pays a loss: worlds worked by hand, conservation, monotonicity."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.core.errors import DomainError
from aggregator.quant.waterfall import Layer, waterfall


def test_offset_then_stake_then_suppliers() -> None:
    layers = (Layer("dao_offset", 10), Layer("umbrella_stake", 50), Layer("treasury", 5))
    found = waterfall(80.0, layers, 1000.0)
    assert (float(found.socialised), float(found.haircut_frac)) == pytest.approx((15, 0.015), rel=1e-12)
    assert float(waterfall(80.0, (), 1000.0).haircut_frac) == pytest.approx(0.08, rel=1e-12)


def test_five_layers_with_and_without_flight() -> None:
    def layers(exits: float) -> tuple[Layer, ...]:
        return (
            Layer("protocol_reserve", 200_000),
            Layer("insurance_fund", 300_000),
            Layer("staked_backstop", 500_000, slashable_frac=0.6, exits_frac=exits),
        )

    losses = [0, 150_000, 200_000, 499_999.99, 500_000, 700_000, 800_000, 1_234_567.89, 10_900_000]
    stay = waterfall(losses, layers(0.0), 1e7)
    assert stay.paid[:, 0] == pytest.approx([0, 150e3, 200e3, 200e3, 200e3, 200e3, 200e3, 200e3, 200e3])
    assert stay.paid[:, 1] == pytest.approx([0, 0, 0, 299_999.99, 300e3, 300e3, 300e3, 300e3, 300e3])
    assert stay.paid[:, 2] == pytest.approx([0, 0, 0, 0, 0, 200e3, 300e3, 300e3, 300e3])
    assert stay.socialised == pytest.approx([0, 0, 0, 0, 0, 0, 0, 434_567.89, 1e7])
    assert stay.beyond == pytest.approx([0] * 8 + [100_000])
    assert stay.haircut_frac[7] == pytest.approx(0.043456789, rel=1e-12)
    flight = waterfall(1_234_567.89, layers(0.35), 1e7)
    assert list(flight.paid) == pytest.approx([200e3, 300e3, 195e3])
    assert float(flight.socialised - stay.socialised[7]) == pytest.approx(105_000, rel=1e-9)


@given(st.lists(st.floats(0, 1e6), max_size=5), st.floats(0, 1e7), st.floats(0, 1e6))
def test_conserves_and_more_backstop_never_hurts_suppliers(sizes: list[float], loss: float, suppliers: float) -> None:
    layers = tuple(Layer(str(i), size) for i, size in enumerate(sizes))
    found = waterfall(loss, layers, suppliers)
    total = np.sum(found.paid) + found.socialised + found.beyond
    assert float(total) == pytest.approx(loss, rel=1e-12, abs=1e-9)
    more = waterfall(loss, (*layers, Layer("extra", 1e5)), suppliers)
    assert float(more.socialised) <= float(found.socialised) + 1e-9


def test_bad_input() -> None:
    with pytest.raises(DomainError, match=r"loss\[1\]"):
        waterfall([1.0, -1.0], (), 1.0)
    with pytest.raises(DomainError, match="layer 'a'"):
        waterfall(1.0, (Layer("a", 1.0, 1.5),), 1.0)
    with pytest.raises(DomainError, match="supplier"):
        waterfall(1.0, (), np.nan)

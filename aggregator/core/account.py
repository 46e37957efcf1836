"""One account as a rule sees it: exact amounts, prices and terms of one (market, holder) at one cut.

Built from a snapshot by `aggregator.report` and `aggregator.engine`, judged by `aggregator.rules`; no rule reads a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from aggregator.core.errors import DomainError
from aggregator.core.fixed import Fixed
from aggregator.core.solmath import mul_div_down, mul_div_half_up, mul_div_up

_ROUNDED = {"down": mul_div_down, "up": mul_div_up, "half_up": mul_div_half_up}


class Leg(NamedTuple):
    """shares and amount in the asset's smallest unit; amount as the contract would answer it at the cut.

    price is None where unknown (then the account cannot be judged, never zero). terms: the market's terms for
    this asset by key, with those of the account's own scope (e.g. its e-mode) under `scope:key` as raw integers.
    num / den is the index of (market, asset, side): amount = shares * num / den in the market's rounding.
    den 0: nothing says what a share is; the amount is unknown, and stands as the shares.
    """

    asset: str
    side: str
    shares: int
    amount: int
    decimals: int
    price: Fixed | None
    terms: Mapping[str, int]
    ref: str = ""
    src: bytes = b""
    num: int = 1
    den: int = 1

    @property
    def counted(self) -> bool:
        """Whether the amount is known."""
        return self.den != 0


class Account(NamedTuple):
    """terms: the market's; own: the account's (`AccountTerm`), e.g. {'emode': 1}; time_s of the cut's block."""

    market: str
    holder: str
    rule: str
    legs: tuple[Leg, ...]
    terms: Mapping[str, int]
    own: Mapping[str, int]
    time_s: int

    def side(self, *sides: str) -> tuple[Leg, ...]:
        return tuple(leg for leg in self.legs if leg.side in sides)


class Judgement(NamedTuple):
    """collateral and debt at `exp` places of `unit`, in the market's own rounding; unit '' is what its prices quote.

    health_factor is wad, None without debt. threshold_wad: the weighted liquidation threshold. margined: what stands
    as debt is what the venue requires, not what anybody owes.
    """

    collateral: int
    debt: int
    exp: int
    unit: str
    health_factor: int | None
    threshold_wad: int
    liquidatable: bool
    margined: bool = False

    @property
    def owed(self) -> int:
        return 0 if self.margined else self.debt

    @property
    def required(self) -> int:
        return self.debt if self.margined else 0


class Liquidation(NamedTuple):
    """What one call of the largest allowed size takes, repays and leaves, in smallest units of each asset.

    to_liquidator + protocol_fee = seized. bad_debt: what the call wrote off by asset (Aave deficit, Morpho loss).
    """

    collateral: str
    debt: str
    repaid: int
    seized: int
    protocol_fee: int
    left_collateral: int
    left_debt: int
    bad_debt: Mapping[str, int]

    @property
    def to_liquidator(self) -> int:
        return self.seized - self.protocol_fee


def mul_div(a: int, b: int, den: int, rounding: str) -> int:
    """a * b / den in the named rounding: down, up or half_up (Solidity's three)."""
    if rounding not in _ROUNDED:
        raise DomainError("unknown rounding", expected=", ".join(_ROUNDED), found=rounding)
    return _ROUNDED[rounding](a, b, den)

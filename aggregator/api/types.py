"""Shapes of the answers, one source for the OpenAPI document and for the tests that decode what is served.

Amounts and exact figures are decimal strings; dollar estimates of the float lane are numbers.
"""

from __future__ import annotations

from typing import Any

import msgspec


class Block(msgspec.Struct, forbid_unknown_fields=True):
    chain: int | str
    number: int
    hash: str
    timestamp: int
    finality: str


class CutOut(msgspec.Struct, forbid_unknown_fields=True):
    digest: str
    skew_s: int
    blocks: list[Block]


class CoverageOut(msgspec.Struct, forbid_unknown_fields=True):
    chain: int | str
    protocol: str
    deployment: str
    level: str
    accounts: int
    value_usd: str | None
    gaps: int


class GapOut(msgspec.Struct, forbid_unknown_fields=True):
    subject: str
    reason: str
    detail: str
    accounts: int | None
    value_usd: str | None


class LegOut(msgspec.Struct, forbid_unknown_fields=True):
    asset: str
    symbol: str
    side: str
    raw: str | None
    amount: str | None
    value_usd: str | None


class LiquidationPrice(msgspec.Struct, forbid_unknown_fields=True):
    """The last price of one asset, counted in quote, at which the account may be liquidated, all else as it is."""

    asset: str
    symbol: str
    price: str
    quote: str
    move_frac: str


class LiquidationOut(msgspec.Struct, forbid_unknown_fields=True):
    liquidatable: bool | None
    prices: list[LiquidationPrice]


class PositionOut(msgspec.Struct, forbid_unknown_fields=True):
    chain: int | str
    protocol: str
    deployment: str
    market: str
    kind: str
    ref: str
    rule: str
    legs: list[LegOut]
    collateral_usd: str | None
    debt_usd: str | None
    requirement_usd: str | None
    health_factor: str | None
    liquidation: LiquidationOut


class Totals(msgspec.Struct, forbid_unknown_fields=True):
    collateral_usd: str | None
    debt_usd: str | None
    positions: int
    unpriced: int


class GreeksOut(msgspec.Struct, forbid_unknown_fields=True):
    """Per underlying: delta in units, gamma per 1 of price, vega per 1.00 of volatility, theta per year."""

    delta: float
    gamma: float
    vega: float
    theta: float
    value: float


class WalletOut(msgspec.Struct, forbid_unknown_fields=True):
    address: str
    cut: CutOut
    age_s: int
    coverage: list[CoverageOut]
    positions: list[PositionOut]
    totals: Totals
    greeks: dict[str, GreeksOut]
    gaps: list[GapOut]


class Reconciled(msgspec.Struct, forbid_unknown_fields=True):
    market: str
    asset: str
    side: str
    positions: str
    contract: str
    difference: str
    equal: bool


class CoverageAnswer(msgspec.Struct, forbid_unknown_fields=True):
    coverage: list[CoverageOut]
    gaps: list[GapOut]
    reconciliation: list[Reconciled]


class Meta(msgspec.Struct, forbid_unknown_fields=True):
    cut: CutOut
    age_s: int
    coverage: list[CoverageOut]
    degraded: list[str]
    version: str


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    data: Any
    meta: Meta
    links: dict[str, str]


class Health(msgspec.Struct, forbid_unknown_fields=True):
    """status: ok | empty | unavailable (the database, with nothing held); detail: why no newer cut is seen."""

    status: str
    cut: str | None
    age_s: int | None
    version: str
    detail: str = ""


class Problem(msgspec.Struct):
    """RFC 9457 plus code, expected, found, fix."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    expected: str = ""
    found: str = ""
    fix: str = ""


class ScenarioIn(msgspec.Struct):
    """See `aggregator.core.scenario.Scenario`; moves are fractions."""

    name: str
    description: str = ""
    price: dict[str, float] = {}
    vol: dict[str, float] = {}
    depth: dict[str, float] = {}
    depeg: dict[str, float] = {}
    conventions: dict[str, Any] = {}

"""Aave v3, revisions 3.0 to 3.7, and forks that kept its interfaces (Spark).

Everything is read through the Pool's own getters, whose ABIs were kept from 3.0 on: scaled balances are the shares,
normalised income and debt the indices, the pool's oracle the prices (0 is one). `Pool.POOL_REVISION` names the rule.
Source: aave/core-v3 1.19.3 (3.0), aave-dao/aave-v3-origin tags v3.1 to v3.7 (PoolInstance, DataTypes, GenericLogic).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from typing import NamedTuple

from aggregator.core.fixed import RAY
from aggregator.core.ids import USD, erc20
from aggregator.core.rows import AccountTerm, Claim, Exposure, Gap, Index, Market, PositionRow, Price, Row, Term, Total
from aggregator.sdk.adapter import Adapter, Answer, Call, Each, Got, Revert, Target, View, Where
from aggregator.sdk.rows import ask, demand, fill, gap, need, once, priced, questions
from aggregator.sdk.tokens import BALANCE_OF, TRANSFER, ZERO, assets

MINOR = {1: 0, 2: 0, 3: 0, 4: 1, 5: 2, 6: 2, 7: 3, 8: 4, 9: 5, 10: 6, 11: 7}  # POOL_REVISION -> x of 3.x
# Every change of a scaled balance emits a Transfer of its token; collateral flags and e-mode are the pool's events.
EVENTS = (
    TRANSFER,
    "UserEModeSet(address indexed user,uint8 categoryId)",
    "ReserveUsedAsCollateralEnabled(address indexed reserve,address indexed user)",
    "ReserveUsedAsCollateralDisabled(address indexed reserve,address indexed user)",
)
PROVIDER = {
    "pool": "getPool()(address)",
    "oracle": "getPriceOracle()(address)",
    "sentinel": "getPriceOracleSentinel()(address)",
}
POOL = {"revision": "POOL_REVISION()(uint256)", "listed": "getReservesList()(address[])"}
STATE = ("getUserConfiguration(address)(uint256)", "getUserEMode(address)(uint256)")
SCALED = "scaledBalanceOf(address)(uint256)"
RESERVE = (
    "getReserveData(address)(uint256,uint128,uint128,uint128,uint128,uint128,uint40,uint16,"
    "address,address,address,address,uint128,uint128,uint128)"
)
# ReserveConfiguration.sol: key, first bit, width
CONFIGURATION = (
    ("ltv_bps", 0, 16), ("liquidation_threshold_bps", 16, 16), ("liquidation_bonus_bps", 32, 16), ("decimals", 48, 8),
    ("active", 56, 1), ("frozen", 57, 1), ("borrowing_enabled", 58, 1), ("paused", 60, 1),
    ("reserve_factor_bps", 64, 16), ("borrow_cap", 80, 36), ("supply_cap", 116, 36),
    ("liquidation_protocol_fee_bps", 152, 16), ("emode_category", 168, 8),
)  # fmt: skip
VIRTUAL_ACCOUNTING_BIT = 252
# bgd-labs/aave-capo, and no other kind of oracle: min(ratio, snapshot + growth * seconds since) * base price
CAPO = {
    "ratio": "getRatio()(int256)",
    "ratio_snapshot": "getSnapshotRatio()(uint256)",
    "ratio_snapshot_s": "getSnapshotTimestamp()(uint256)",
    "ratio_growth_per_s": "getMaxRatioGrowthPerSecond()(uint256)",
    "scaled": "getMaxRatioGrowthPerSecondScaled()(uint256)",  # times 10^6, in later versions alone
    "decimals": "RATIO_DECIMALS()(uint8)",
}
EMODE_CONFIGURATION = ("ltv_bps", "liquidation_threshold_bps", "liquidation_bonus_bps")


class Reserve(NamedTuple):
    """data: the answer of getReserveData. id: the asset's bit in user bitmaps, which is not its place in the list."""

    asset: str
    address: str
    id: int
    a_token: str
    stable_token: str
    debt_token: str
    data: Answer


class Pool(NamedTuple):
    """minor: x of 3.x, None for a revision we do not know. sentinel: ZERO where the chain has none."""

    address: str
    oracle: str
    sentinel: str
    revision: Answer
    minor: int | None
    reserves: tuple[Reserve, ...]


class Leg(NamedTuple):
    """One token to ask balances of by sig. holders: who may have one; sides: of each, in order.

    Side stable: debt at a stable rate.
    """

    asset: str
    token: str
    sig: str
    holders: list[str]
    sides: list[str]


class AaveV3(Adapter):
    name = "aave_v3"
    addresses = ("pool_addresses_provider",)
    required = (("pool_addresses_provider",),)

    async def discover(self, view: View, where: Where, since: int) -> AsyncIterator[Target]:
        pool, seen = await _pool(view, where), {ZERO}
        tokens = [t for r in pool.reserves for t in (r.a_token, r.debt_token, r.stable_token) if t != ZERO]
        async for log in view.logs([pool.address, *tokens], EVENTS, since):
            for key in ("from", "to") if log.event == "Transfer" else ("user",):
                if log.args[key] not in seen:
                    seen.add(log.args[key])
                    yield Target(where.id, log.args[key])

    async def terms(self, view: View, where: Where) -> AsyncIterator[Row]:
        pool, market = await _pool(view, where), where.id
        revision, src = pool.revision.value, pool.revision.src()
        if pool.minor is None:
            yield Market(market, "lending", "aave_v3@unknown", where.name, src)
            yield Gap(market, "unknown_version", f"POOL_REVISION {revision}", accounts=len(where.targets), src=src)
            return
        yield Market(market, "lending", f"aave_v3@3.{pool.minor}", where.name, src)
        yield Term(market, "", "", "pool_revision", revision, 0, src)
        calls = [Call(pool.oracle, "BASE_CURRENCY()(address)"), Call(pool.oracle, "BASE_CURRENCY_UNIT()(uint256)")]
        if pool.sentinel != ZERO:
            calls.append(Call(pool.sentinel, "isLiquidationAllowed()(bool)"))
        currency, units, *allowed = await view.calls(calls)
        base, unit = need(currency, "BASE_CURRENCY", where).value, need(units, "BASE_CURRENCY_UNIT", where)
        exp = len(str(unit.value)) - 1
        yield Term(market, "", "", "base_unit_exp", exp, 0, unit.src())
        permit = Term(market, "", "", "liquidation_allowed", 1, 0)
        yield fill(allowed[0], permit, what="isLiquidationAllowed") if allowed else permit

        quote = USD if base == ZERO else erc20(where.chain, base)
        asked = await ask(view, [_questions(pool, r, pool.minor) for r in pool.reserves])
        sources = [got["source"].value or ZERO for got in asked]
        ratios = await view.calls([Call(source, "RATIO_PROVIDER()(address)") for source in sources])
        paths = ["feed" if isinstance(ratio, Revert) else "rate" for ratio in ratios]
        rated = {r.asset: s for r, s, path in zip(pool.reserves, sources, paths, strict=True) if path == "rate"}
        for asset, got in zip(rated, await ask(view, [questions(s, CAPO) for s in rated.values()]), strict=True):
            for row in _ratio_cap(market, asset, got):
                yield row
        named = await assets(view, [a for r in pool.reserves for a in (r.address, r.a_token)])
        for row in named.rows:
            yield row
        for r, got, path in zip(pool.reserves, asked, paths, strict=True):
            for row in _reserve(market, r, got, pool.minor):
                yield row
            # an aToken rebases: one raw unit of its balanceOf is one raw unit of the underlying
            yield Claim(named[r.a_token].id, r.asset, "receipt", 1, 1, market, src=r.data.src(8))
            yield priced(got["price"], Price(market, r.asset, quote, 0, exp, path, 0, 0), "price", zero_is_price=True)
        async for row in _own_emodes(view, market, pool, exp) if pool.minor < 2 else _emodes(view, market, pool):
            yield row

    async def read(self, view: View, where: Where, targets: Sequence[Target]) -> AsyncIterator[PositionRow | Gap]:
        pool, market = await _pool(view, where), where.id
        if pool.minor is None:  # by account, so that each is asked again once it is known; `terms` counts them
            for target in targets:
                yield Gap(target.subject, "unknown_version", f"POOL_REVISION {pool.revision.value}", accounts=0)
            return
        holders = [t.holder for t in targets if t.holder]
        flags, emodes = await view.each([Each(pool.address, sig, holders) for sig in STATE])
        for sig, column in zip(STATE, (flags, emodes), strict=True):
            for i, revert in column.reverts.items():
                yield gap(revert, Target(market, holders[i]), sig)
        legs, present = list(_legs(pool, holders, flags.values)), set[str]()
        answers = await view.each([Each(leg.token, leg.sig, leg.holders) for leg in legs])
        for leg, column in zip(legs, answers, strict=True):
            for k, raw, src in column.nonzero():
                holder, side = leg.holders[k], leg.sides[k]
                present.add(holder)
                if side == "stable":
                    detail = f"{raw} raw of {leg.asset} owed at a stable rate"
                    yield Gap(f"{market}#{holder}", "unread", detail, accounts=1, src=src)
                else:
                    yield Exposure(market, holder, "", leg.asset, side, raw, src)
            for k, revert in column.reverts.items():
                yield gap(revert, Target(market, leg.holders[k]), f"{leg.sides[k]} of {leg.asset}")
        for i, emode, src in emodes.nonzero():
            if holders[i] in present:
                yield AccountTerm(market, holders[i], "", "emode", emode, src)


ADAPTER = AaveV3()


@once
async def _pool(view: View, where: Where) -> Pool:
    (parts,) = await ask(view, [questions(where.address("pool_addresses_provider"), PROVIDER)])
    pool, oracle = (need(parts[name], PROVIDER[name], where).value for name in ("pool", "oracle"))
    sentinel = parts["sentinel"].value or ZERO
    (own,) = await demand(view, where, [questions(pool, POOL)])
    (listed,) = await demand(view, where, [{a: Call(pool, RESERVE, (a,)) for a in own["listed"].value}])
    reserves = list[Reserve]()
    for address, data in listed.items():
        number, a_token, stable_token, debt_token = data.values[7:11]
        asset = erc20(where.chain, address)
        reserves.append(Reserve(asset, address, number, a_token, stable_token, debt_token, data))
    reserves.sort(key=lambda r: r.id)
    return Pool(pool, oracle, sentinel, own["revision"], MINOR.get(own["revision"].value), tuple(reserves))


def _legs(pool: Pool, holders: Sequence[str], flags: Sequence[int | None]) -> Iterator[Leg]:
    """What to ask of accounts. UserConfiguration.sol: bit 2i is set while reserve i is owed, 2i+1 as collateral."""
    known = [(holder, bits) for holder, bits in zip(holders, flags, strict=True) if bits is not None]
    everyone = [holder for holder, _ in known]
    for r in pool.reserves:
        owed, used = 1 << 2 * r.id, 2 << 2 * r.id
        sides = ["collateral" if bits & used else "supply" for _, bits in known]
        yield Leg(r.asset, r.a_token, SCALED, everyone, sides)
        if debtors := [holder for holder, bits in known if bits & owed]:
            yield Leg(r.asset, r.debt_token, SCALED, debtors, ["debt"] * len(debtors))
            if r.stable_token != ZERO and (pool.minor or 0) < 2:
                yield Leg(r.asset, r.stable_token, BALANCE_OF, debtors, ["stable"] * len(debtors))


def _questions(pool: Pool, r: Reserve, minor: int) -> dict[str, Call]:
    asks = {
        "income": Call(pool.address, "getReserveNormalizedIncome(address)(uint256)", (r.address,)),
        "owed": Call(pool.address, "getReserveNormalizedVariableDebt(address)(uint256)", (r.address,)),
        "price": Call(pool.oracle, "getAssetPrice(address)(uint256)", (r.address,)),
        "source": Call(pool.oracle, "getSourceOfAsset(address)(address)", (r.address,)),
        "supply": Call(r.a_token, "scaledTotalSupply()(uint256)"),
        "debt": Call(r.debt_token, "scaledTotalSupply()(uint256)"),
        "available_liquidity": Call(r.address, BALANCE_OF, (r.a_token,)),
    }
    if minor >= 1:
        asks["grace_until_s"] = Call(pool.address, "getLiquidationGracePeriod(address)(uint40)", (r.address,))
        asks["virtual_underlying"] = Call(pool.address, "getVirtualUnderlyingBalance(address)(uint128)", (r.address,))
    if minor >= 3:
        asks["deficit"] = Call(pool.address, "getReserveDeficit(address)(uint256)", (r.address,))
    return asks


def _reserve(market: str, r: Reserve, got: dict[str, Got], minor: int) -> Iterator[Row]:
    bits, src = r.data.value, r.data.src()
    for key, bit, width in CONFIGURATION[: None if minor < 2 else -1]:
        yield Term(market, r.asset, "", key, bits >> bit & (1 << width) - 1, 0, src)
    yield Term(market, r.asset, "", "reserve_id", r.id, 0, r.data.src(7))
    yield Term(market, r.asset, "", "accrued_to_treasury", r.data.values[12], 0, r.data.src(12))
    # From 3.1 on what was donated to an aToken cannot be withdrawn; until 3.4 a reserve could opt out of that count.
    if minor >= 4 or (minor >= 1 and bits >> VIRTUAL_ACCOUNTING_BIT & 1):
        got = {**got, "available_liquidity": got["virtual_underlying"]}
    for key in ("available_liquidity", "virtual_underlying", "grace_until_s", "deficit"):
        if key in got:
            yield fill(got[key], Term(market, r.asset, "", key, 0, 0))
    for side, key, rounding in (("collateral", "income", "down"), ("supply", "income", "down"), ("debt", "owed", "up")):
        index = Index(market, r.asset, side, 0, RAY, rounding if minor >= 5 else "half_up")
        yield fill(got[key], index, what=f"normalised {key}")
    for side in ("supply", "debt"):
        yield fill(got[side], Total(market, r.asset, side, 0), what=f"scaledTotalSupply of {side}")


def _ratio_cap(market: str, asset: str, got: dict[str, Got]) -> Iterator[Row]:
    """The cap on the exchange rate of an oracle, at the ratio's own places; nothing where it has none."""
    if isinstance(got["ratio_snapshot"], Revert):  # it multiplies by a rate without a bound
        return
    if (places := got["decimals"].value) is None or places > 36:
        yield Gap(asset, "unread", f"RATIO_DECIMALS of its oracle's cap: {places}", accounts=0)
        return
    exps = {"ratio": places, "ratio_snapshot": places, "ratio_snapshot_s": 0, "ratio_growth_per_s": places}
    if not isinstance(got["scaled"], Revert):
        got, exps["ratio_growth_per_s"] = {**got, "ratio_growth_per_s": got["scaled"]}, places + 6
    for key, exp in exps.items():
        yield fill(got[key], Term(market, asset, "", key, 0, exp))


async def _own_emodes(view: View, market: str, pool: Pool, exp: int) -> AsyncIterator[Row]:
    """3.0 and 3.1: an asset is in one category at most, and a category may have a price of its own."""
    ids = sorted({r.data.value >> 168 & 0xFF for r in pool.reserves} - {0})
    sig = "getEModeCategoryData(uint8)((uint16,uint16,uint16,address,string))"
    (categories,) = await ask(view, [{i: Call(pool.address, sig, (i,)) for i in ids}])
    for i, answer in categories.items():
        scope = f"emode:{i}"
        if isinstance(answer, Revert):
            yield gap(answer, market, f"getEModeCategoryData({i})")
            continue
        for word, key in enumerate(EMODE_CONFIGURATION):
            yield Term(market, "", scope, key, answer.value[word], 0, answer.src(word + 1))
        source = answer.value[3]
        yield Term(market, "", scope, "price_source", int(source, 16), 0, answer.src(4))
        if source != ZERO:
            (price,) = await view.calls([Call(pool.oracle, "getAssetPrice(address)(uint256)", (source,))])
            yield fill(price, Term(market, "", scope, "price", 0, exp))


async def _emodes(view: View, market: str, pool: Pool) -> AsyncIterator[Row]:
    """From 3.2 on: a category names what is collateral and what can be borrowed by bitmaps over reserve ids."""
    sig = "getEModeCategoryCollateralConfig(uint8)(uint16,uint16,uint16)"
    (configs,) = await ask(view, [{i: Call(pool.address, sig, (i,)) for i in range(1, 256)}])
    found = {i: a for i, a in configs.items() if isinstance(a, Revert) or any(a.values)}
    sigs = {
        "collateral_bitmap": "getEModeCategoryCollateralBitmap(uint8)(uint128)",
        "borrowable_bitmap": "getEModeCategoryBorrowableBitmap(uint8)(uint128)",
    }
    if (pool.minor or 0) >= 6:
        sigs["ltvzero_bitmap"] = "getEModeCategoryLtvzeroBitmap(uint8)(uint128)"
    if (pool.minor or 0) >= 7:
        sigs["isolated"] = "getIsEModeCategoryIsolated(uint8)(bool)"
    bitmaps = await ask(view, [questions(pool.address, sigs, i) for i in found])
    for (i, config), got in zip(found.items(), bitmaps, strict=True):
        for word, key in enumerate(EMODE_CONFIGURATION):
            yield fill(config, Term(market, "", f"emode:{i}", key, 0, 0), word)
        for key, answer in got.items():
            yield fill(answer, Term(market, "", f"emode:{i}", key, 0, 0))

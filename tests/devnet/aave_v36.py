"""Aave v3.6 (@aave-dao/aave-v3-origin 3.6.0 sources, compiled here with solc 0.8.27)."""

from __future__ import annotations

from collections.abc import Sequence

from eth_abi.abi import encode

from tests.devnet.aave import Aave, EMode, Reserve
from tests.devnet.anvil import Chain
from tests.devnet.contract import Contract
from tests.devnet.tokens import ZERO_ADDRESS
from tests.devnet.toolchain import Toolchain


def deploy(tools: Toolchain, chain: Chain, reserves: Sequence[Reserve], emodes: Sequence[EMode] = ()) -> Aave:
    """A market with these reserves, listed and open."""
    built = tools.build("aave-v3.6")
    libraries: dict[str, str] = {}

    def create(name: str, *args: object) -> Contract:
        for library in built[name].holes:
            if library not in libraries:
                libraries[library] = create(library).address
        return chain.deploy(built[name], *args, libraries=libraries)

    registry = create("PoolAddressesProviderRegistry", chain.owner)
    provider = create("PoolAddressesProvider", "Test market v3.6", chain.owner)
    registry.send("registerAddressesProvider", provider, 1)
    provider.send("setACLAdmin", chain.owner)  # the constructor of ACLManager asks for it
    acl = create("ACLManager", provider)
    provider.send("setACLManager", acl)
    for role in ("addPoolAdmin", "addEmergencyAdmin", "addRiskAdmin", "addAssetListingAdmin"):
        acl.send(role, chain.owner)
    oracle = create(
        "AaveOracle", provider, [r.asset.address for r in reserves], [r.asset.feed.address for r in reserves],
        ZERO_ADDRESS, ZERO_ADDRESS, 10**8,
    )  # fmt: skip
    provider.send("setPriceOracle", oracle)
    strategy = create("DefaultReserveInterestRateStrategyV2", provider)
    provider.send("setPoolImpl", create("PoolInstance", provider, strategy))
    provider.send("setPoolConfiguratorImpl", create("PoolConfiguratorInstance"))
    pool = chain.at(provider.call("getPool"), built["PoolInstance"])
    configurator = chain.at(provider.call("getPoolConfigurator"), built["PoolConfiguratorInstance"])
    data_provider = create("AaveProtocolDataProvider", provider)  # its constructor reads the pool
    provider.send("setPoolDataProvider", data_provider)
    treasury = chain.accounts[9]
    rewards = create("RewardsController", create("EmissionManager", chain.owner))
    a_token = create("ATokenInstance", pool, rewards, treasury)
    debt_token = create("VariableDebtTokenInstance", pool, rewards)
    configurator.send("initReserves", [_listing(a_token, debt_token, r) for r in reserves], gas=50_000_000)
    for reserve in reserves:
        _configure(configurator, reserve)
    addresses = {r.asset.symbol: r.asset.address for r in reserves}
    for emode in emodes:
        terms = (emode.ltv_bps, emode.threshold_bps, emode.bonus_bps)
        configurator.send("setEModeCategory", emode.id, *terms, emode.label)
        for symbol in emode.collateral:
            configurator.send("setAssetCollateralInEMode", addresses[symbol], emode.id, True)
        for symbol in emode.borrowable or emode.collateral:
            configurator.send("setAssetBorrowableInEMode", addresses[symbol], emode.id, True)
    return Aave(
        "3.6", chain, provider, pool, configurator, oracle, acl, data_provider, treasury,
        {r.asset.symbol: r for r in reserves}, create("LiquidationDataProvider", pool, provider),
    )  # fmt: skip


def _listing(a_token: Contract, debt_token: Contract, reserve: Reserve) -> tuple[object, ...]:
    symbol, curve = reserve.asset.symbol, reserve.curve
    rates = (curve.optimal_bps, curve.base_bps, curve.slope1_bps, curve.slope2_bps)
    return (
        a_token, debt_token, reserve.asset.address,
        f"Aave {symbol}", f"a{symbol}", f"Aave variable debt {symbol}", f"variableDebt{symbol}",
        b"", encode(["(uint16,uint32,uint32,uint32)"], [rates]),
    )  # fmt: skip


def _configure(configurator: Contract, reserve: Reserve) -> None:
    where = reserve.asset.address
    terms = (reserve.ltv_bps, reserve.threshold_bps, reserve.bonus_bps)
    configurator.send("configureReserveAsCollateral", where, *terms)
    configurator.send("setReserveBorrowing", where, reserve.borrowable)
    configurator.send("setReserveFactor", where, reserve.reserve_factor_bps)
    configurator.send("setLiquidationProtocolFee", where, reserve.protocol_fee_bps)
    configurator.send("setReserveFlashLoaning", where, True)

"""Aave v3.0 (@aave/core-v3 1.19.3, the artifacts its publisher compiled), in the order of @aave/deploy-v3."""

from __future__ import annotations

from collections.abc import Sequence

from tests.devnet.aave import RAY, Aave, Curve, EMode, Reserve
from tests.devnet.anvil import Chain
from tests.devnet.artifacts import Artifact
from tests.devnet.contract import Contract
from tests.devnet.tokens import ZERO_ADDRESS
from tests.devnet.toolchain import Toolchain

LIBRARIES = (
    "SupplyLogic", "BorrowLogic", "LiquidationLogic", "EModeLogic", "BridgeLogic", "PoolLogic",
    "ConfiguratorLogic", "FlashLoanLogic",
)  # fmt: skip


def deploy(tools: Toolchain, chain: Chain, reserves: Sequence[Reserve], emodes: Sequence[EMode] = ()) -> Aave:
    """A market with these reserves, listed and open."""

    def artifact(name: str) -> Artifact:
        return tools.artifact("aave-v3.0", name)

    def create(name: str, *args: object) -> Contract:
        return chain.deploy(artifact(name), *args, libraries=libraries)

    libraries: dict[str, str] = {}
    for library in LIBRARIES:
        libraries[library] = create(library).address
    registry = create("PoolAddressesProviderRegistry", chain.owner)
    provider = create("PoolAddressesProvider", "Test market v3.0", chain.owner)
    registry.send("registerAddressesProvider", provider, 1)
    data_provider = create("AaveProtocolDataProvider", provider)
    provider.send("setPoolDataProvider", data_provider)
    provider.send("setACLAdmin", chain.owner)  # the constructor of ACLManager asks for it
    acl = create("ACLManager", provider)
    provider.send("setACLManager", acl)
    for role in ("addPoolAdmin", "addEmergencyAdmin", "addRiskAdmin"):
        acl.send(role, chain.owner)
    oracle = create(
        "AaveOracle", provider, [r.asset.address for r in reserves], [r.asset.feed.address for r in reserves],
        ZERO_ADDRESS, ZERO_ADDRESS, 10**8,
    )  # fmt: skip
    provider.send("setPriceOracle", oracle)
    provider.send("setPoolImpl", create("Pool", provider))
    provider.send("setPoolConfiguratorImpl", create("PoolConfigurator"))
    pool = chain.at(provider.call("getPool"), artifact("Pool"))
    configurator = chain.at(provider.call("getPoolConfigurator"), artifact("PoolConfigurator"))
    treasury = chain.accounts[9]
    implementations = [create(n, pool).address for n in ("AToken", "StableDebtToken", "VariableDebtToken")]
    listing = [
        _listing(implementations, create("DefaultReserveInterestRateStrategy", provider, *_rates(r.curve)), r, treasury)
        for r in reserves
    ]
    configurator.send("initReserves", listing, gas=30_000_000)
    for reserve in reserves:
        _configure(configurator, reserve)
    for emode in emodes:
        feed = emode.feed.address if emode.feed else ZERO_ADDRESS
        terms = (emode.ltv_bps, emode.threshold_bps, emode.bonus_bps)
        configurator.send("setEModeCategory", emode.id, *terms, feed, emode.label)
        for symbol in emode.collateral:
            address = next(r.asset.address for r in reserves if r.asset.symbol == symbol)
            configurator.send("setAssetEModeCategory", address, emode.id)
    return Aave(
        "3.0", chain, provider, pool, configurator, oracle, acl, data_provider, treasury,
        {r.asset.symbol: r for r in reserves},
    )  # fmt: skip


def _listing(implementations: Sequence[str], strategy: Contract, reserve: Reserve, treasury: str) -> tuple[object, ...]:
    asset, symbol = reserve.asset, reserve.asset.symbol
    return (
        *implementations, asset.decimals, strategy, asset.address, treasury, ZERO_ADDRESS,
        f"Aave {symbol}", f"a{symbol}", f"Aave variable debt {symbol}", f"variableDebt{symbol}",
        f"Aave stable debt {symbol}", f"stableDebt{symbol}", b"",
    )  # fmt: skip


def _rates(curve: Curve) -> tuple[int, ...]:
    """Constructor arguments in ray; the stable-rate half is never used, because no reserve turns it on."""

    def ray(bps: int) -> int:
        return bps * RAY // 10_000

    variable = (curve.optimal_bps, curve.base_bps, curve.slope1_bps, curve.slope2_bps)
    stable = (50, 6_000, 100, 800, 2_000)
    return tuple(ray(bps) for bps in (*variable, *stable))


def _configure(configurator: Contract, reserve: Reserve) -> None:
    where = reserve.asset.address
    terms = (reserve.ltv_bps, reserve.threshold_bps, reserve.bonus_bps)
    configurator.send("configureReserveAsCollateral", where, *terms)
    configurator.send("setReserveBorrowing", where, reserve.borrowable)
    configurator.send("setReserveFactor", where, reserve.reserve_factor_bps)
    configurator.send("setLiquidationProtocolFee", where, reserve.protocol_fee_bps)

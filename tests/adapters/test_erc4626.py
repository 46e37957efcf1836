"""ERC-4626 vaults read from real OpenZeppelin bytecode: a holder's claim is what the vault itself would convert."""

from __future__ import annotations

import pytest

from adapters.erc4626 import ADAPTER
from aggregator.core.ids import erc20
from aggregator.core.rows import Asset, Claim, Exposure, Gap, Market, Term, Total
from aggregator.sdk.testing import FakeView, discover
from tests.adapters.reading import (
    Reading,
    assert_incremental,
    at_address,
    read,
    read_view,
    viewing,
    where_is,
)
from tests.devnet.anvil import Chain
from tests.devnet.erc4626 import deploy_vault
from tests.devnet.tokens import deploy_asset
from tests.devnet.toolchain import Toolchain
from tests.devnet.worlds import World

VAULTS = ("svETH", "waUSDC")  # a token below, no offset; a rebasing aToken below, six more decimals


async def reading_of(world: World, name: str) -> Reading:
    return await read(ADAPTER, world.chains[1], where_is(world, "erc4626", 1, name))


def assert_equals_the_vault(world: World, name: str, reading: Reading) -> None:
    """Every holder's assets and the supply, to the last unit at the cut's block."""
    vault, at = world.vaults[name], reading.at.hash
    claim = reading.one(Claim)
    assert (claim.asset, claim.underlying) == (erc20(1, vault.address), erc20(1, vault.underlying.address))
    assert (claim.kind, claim.market) == ("vault", f"{reading.where.id}/{vault.address.lower()}")
    rows = reading.of(Exposure)
    for row in rows:
        assert (row.asset, row.side, row.market) == (claim.asset, "supply", claim.market)
        assert row.shares == vault.token.call("balanceOf", row.holder, block=at)
        assert row.shares * claim.num // claim.den == vault.token.call("convertToAssets", row.shares, block=at)
    assert sum(r.shares for r in rows) == reading.one(Total).raw == vault.token.call("totalSupply", block=at)
    assert reading.one(Term, key="total_assets").raw == vault.token.call("totalAssets", block=at)


@pytest.mark.parametrize("name", VAULTS)
async def test_every_share_converts_as_the_vault_says(three_chains_world: World, name: str) -> None:
    reading = await reading_of(three_chains_world, name)
    assert_equals_the_vault(three_chains_world, name, reading)
    assert not reading.of(Gap)
    assert reading.one(Market).kind == "vault"
    assert len(reading.of(Exposure)) > 1


async def test_incremental_read_equals_full_read_through_gain_and_loss(world: World) -> None:
    vault, chain = world.vaults["svETH"], world.chains[1]
    before = await reading_of(world, "svETH")
    user, receiver = chain.accounts[7:9]
    vault.deposit(user, vault.underlying.raw(7))
    vault.token.send("transfer", receiver, 3, sender=user)
    vault.lose(vault.underlying.raw(1_000))
    vault.redeem(chain.accounts[1], vault.token.call("balanceOf", chain.accounts[1]))
    full = await assert_incremental(ADAPTER, chain, before)
    assert_equals_the_vault(world, "svETH", full)
    assert full.one(Exposure, holder=receiver.lower()).shares == 3
    assert not full.of(Exposure, holder=chain.accounts[1].lower())
    was, now = before.one(Claim), full.one(Claim)
    assert now.num * was.den < was.num * now.den  # a share is worth less after the loss


async def test_an_empty_vault_has_a_rate_and_no_holders(world: World) -> None:
    vault, chain = world.vaults["svETH"], world.chains[1]
    for row in (await reading_of(world, "svETH")).of(Exposure):
        vault.token.send("redeem", row.shares, row.holder, row.holder, sender=row.holder)
    chain.mine()
    reading = await reading_of(world, "svETH")
    assert_equals_the_vault(world, "svETH", reading)
    assert not reading.of(Exposure)


@pytest.mark.parametrize("offset", [0, 6])
async def test_a_rate_without_end_is_kept_as_a_ratio(devnet_tools: Toolchain, chain: Chain, offset: int) -> None:
    """A share is worth a third: three pay one, of which 36 places of the rate would make nought."""
    asset = deploy_asset(devnet_tools, chain, "USDC", 6, 1)
    vault = deploy_vault(devnet_tools, chain, asset, "svUSDC", offset)
    user, other = chain.accounts[3:5]
    vault.deposit(user, 3 * 10**9 - 1)
    vault.lose(2 * 10**9)
    three = 3 * 10**offset
    assert vault.token.call("convertToAssets", three) == 1
    vault.token.send("transfer", other, three, sender=user)
    reading = await read(ADAPTER, chain, at_address("erc4626", 1, vault.addresses))
    claim = reading.one(Claim)
    for row in reading.of(Exposure):
        assert row.shares * claim.num // claim.den == vault.token.call("convertToAssets", row.shares)
    assert reading.one(Exposure, holder=other.lower()).shares == three


@pytest.mark.parametrize("hostile", ["RevertingToken", "GasBurner", "no code"])
async def test_a_vault_that_does_not_answer_is_a_gap_beside_the_others(world: World, hostile: str) -> None:
    chain, good = world.chains[1], world.vaults["svETH"].address
    bad = "0x" + "ab" * 20
    if hostile != "no code":
        bad = chain.deploy(world.uniswap.tools.build("ours")[hostile]).address  # type: ignore[union-attr]
    reading = await read(ADAPTER, chain, at_address("erc4626", 1, {}, vaults=[good, bad]))
    gap = reading.one(Gap)
    assert gap.subject == f"{reading.where.id}/{bad.lower()}"
    assert gap.reason == ("no_code" if hostile == "no code" else "reverted")
    assert reading.one(Market).market == f"{reading.where.id}/{good.lower()}"


VAULT, ASSET = "0x" + "a1" * 20, "0x" + "b2" * 20


def odd_vault() -> FakeView:
    view = FakeView().token(VAULT, "ODD", 18).token(ASSET, "USD", 6)
    view.answer(VAULT, "asset()(address)", (), (ASSET,)).answer(ASSET, "balanceOf(address)(uint256)", (VAULT,), (5,))
    return view.answer(VAULT, "totalAssets()(uint256)", (), (1_000,)).answer(
        VAULT, "totalSupply()(uint256)", (), (10**15,)
    )


async def test_a_rate_that_is_not_the_totals_is_taken_as_the_vault_says_it() -> None:
    """A vault with a fee inside: totals would overstate the claim by a tenth."""
    view = odd_vault().function(VAULT, "convertToAssets(uint256)(uint256)", lambda s: (s * 900 // 10**15,))
    claim = (await read_view(ADAPTER, view, at_address("erc4626", 1, {"vault": VAULT}))).one(Claim)
    assert 10**15 * claim.num // claim.den == 900


async def test_a_vault_that_overflows_on_large_samples_is_asked_for_one_share() -> None:
    view = odd_vault().function(
        VAULT, "convertToAssets(uint256)(uint256)", lambda s: (s * 1_000 // 10**15,) if s < 2**96 else None
    )
    claim = (await read_view(ADAPTER, view, at_address("erc4626", 1, {"vault": VAULT}))).one(Claim)
    assert (claim.num, claim.den) == (10**6, 10**18)


async def test_without_any_rate_there_is_no_claim() -> None:
    view = odd_vault().function(VAULT, "convertToAssets(uint256)(uint256)", lambda _: None)
    reading = await read_view(ADAPTER, view, at_address("erc4626", 1, {"vault": VAULT}))
    assert not reading.of(Claim)
    assert reading.one(Gap).reason == "reverted"
    assert {a.symbol for a in reading.of(Asset)} == {"ODD", "USD"}


async def test_a_vault_that_hides_what_it_holds_still_has_holders() -> None:
    """Who holds its shares must stay answerable, of unknown worth; only what is below them is unknown."""
    view = FakeView().token(VAULT, "ODD", 18).answer(VAULT, "totalSupply()(uint256)", (), (10**15,))
    reading = await read_view(ADAPTER, view, at_address("erc4626", 1, {"vault": VAULT}))
    assert {g.detail.partition(":")[0] for g in reading.of(Gap)} == {"asset", "total_assets"}
    assert (reading.one(Market).kind, reading.one(Total).raw) == ("vault", 10**15)
    assert [a.symbol for a in reading.of(Asset)] == ["ODD"]
    assert not reading.of(Claim)


async def test_a_vault_that_was_configured_later_is_read_from_its_first_block(three_chains_world: World) -> None:
    chain, first, second = three_chains_world.chains[1], *(three_chains_world.vaults[n].address for n in VAULTS)
    before = await read(ADAPTER, chain, at_address("erc4626", 1, {}, vaults=[first]))
    both = await read(ADAPTER, chain, at_address("erc4626", 1, {}, vaults=[first, second]))
    async with viewing(chain) as view:
        later = both.where._replace(markets=before.where.markets, targets=before.where.targets)
        assert await discover(ADAPTER, view, later, before.at.number + 1) == both.where
    assert len(both.where.targets) > len(before.where.targets)

"""ERC-4626 vaults: a share is a claim on the vault's asset; its holders come from Transfer events.

The rate is what `convertToAssets` answers. It rounds down, so it is asked for 10^36 shares; where that equals the ratio
of OpenZeppelin's ERC4626 (totalAssets + 1 over totalSupply + 10^offset) or of the plain totals, the exact ratio is kept
and a holder's amount equals the vault's own answer to the last unit. Source: EIP-4626; OpenZeppelin ERC4626.sol 5.1.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from aggregator.core.ids import erc20
from aggregator.core.rows import Asset, Claim, Exposure, Gap, Index, Market, PositionRow, Row, Term, Total
from aggregator.sdk.adapter import Adapter, Answer, Call, Got, Revert, Target, View, Where
from aggregator.sdk.rows import ask, fill, gap, questions
from aggregator.sdk.tokens import BALANCE_OF, TOTAL_SUPPLY, TRANSFER, ZERO, assets

SAMPLE = 10**36
VAULT = {"asset": "asset()(address)", "total_assets": "totalAssets()(uint256)", "total_supply": TOTAL_SUPPLY}


class Erc4626(Adapter):
    name = "erc4626"
    addresses = ("vault",)
    options = ("vaults",)
    required = (("vault", "vaults"),)

    async def discover(self, view: View, where: Where, since: int) -> AsyncIterator[Target]:
        vaults, known = _vaults(where), {m.key for m in where.markets}
        new = [vault for vault in vaults if vault not in known]
        # a vault added to the configuration later has a history before what was read last
        for begin, some in ((where.start_block, new), (since, [vault for vault in vaults if vault in known])):
            if not some:
                continue
            async for log in view.logs(some, [TRANSFER], begin):
                for holder in (log.args["from"], log.args["to"]):
                    if holder != ZERO:
                        yield Target(where.market_id(log.address), holder)
        for vault in new:
            yield Target(where.market_id(vault))

    async def terms(self, view: View, where: Where) -> AsyncIterator[Row]:
        vaults = _vaults(where)
        asked = await ask(view, [questions(vault, VAULT) for vault in vaults])
        below = [a.value if isinstance(a := got["asset"], Answer) else "" for got in asked]
        # what is no vault at all has no shares either
        known = [(v, a, got) for v, a, got in zip(vaults, below, asked, strict=True) if a or got["total_supply"].value]
        named = await assets(view, [token for vault, asset, _ in known for token in (vault, asset) if token])
        more = await ask(view, [_rates(vault, asset, named[vault]) if asset else {} for vault, asset, _ in known])
        for row in named.rows:
            yield row
        for vault, got in zip(vaults, asked, strict=True):
            if isinstance(got["asset"], Revert):
                yield gap(got["asset"], where.market_id(vault), "asset")
        for (vault, asset, got), rates in zip(known, more, strict=True):
            for row in _terms(where.market_id(vault), named[vault], named[asset] if asset else None, got | rates):
                yield row

    async def read(self, view: View, where: Where, targets: Sequence[Target]) -> AsyncIterator[PositionRow | Gap]:
        accounts = [t for t in targets if t.holder]
        balances = await view.calls([Call(t.key, BALANCE_OF, (t.holder,)) for t in accounts])
        for t, balance in zip(accounts, balances, strict=True):
            if isinstance(balance, Revert):
                yield gap(balance, t, "balanceOf")
            elif balance.value:
                share = erc20(where.chain, t.key)
                yield Exposure(t.market, t.holder, "", share, "supply", balance.value, balance.src())


ADAPTER = Erc4626()


def _vaults(where: Where) -> list[str]:
    """addresses.vault and options.vaults, lower case, each once."""
    one = {where.address("vault")} if "vault" in where.addresses else set[str]()
    if not (vaults := sorted(one.union(where.listed("vaults")))):
        raise where.misconfigured("names no vault", 'vaults = ["0x..."]', "none")
    return vaults


def _rates(vault: str, asset: str, share: Asset) -> dict[str, Call]:
    whole = 10 ** max(share.decimals, 0)
    return {
        "sample": Call(vault, "convertToAssets(uint256)(uint256)", (SAMPLE,)),
        "whole": Call(vault, "convertToAssets(uint256)(uint256)", (whole,)),
        "available_liquidity": Call(asset, BALANCE_OF, (vault,)),
    }


def _terms(market: str, share: Asset, asset: Asset | None, got: dict[str, Got]) -> Iterator[Row]:
    """asset None: the vault does not say what it holds; who holds its shares is known all the same."""
    yield Market(market, "vault", "", share.symbol, got["asset" if asset else "total_supply"].src())
    for key in ("total_assets", "total_supply", "available_liquidity"):
        if key in got:
            yield fill(got[key], Term(market, "", "", key, 0, 0))
    yield fill(got["total_supply"], Total(market, share.id, "supply", 0), what="totalSupply", subject=market)
    yield Index(market, share.id, "supply", 1, 1, "down")
    if asset is None:
        return
    rate = got["sample"] if isinstance(got["sample"], Answer) else got["whole"]  # a huge sample overflows some vaults
    if isinstance(rate, Revert):
        yield gap(rate, share.id, "convertToAssets")
        return
    num, den = rate.value, SAMPLE if rate is got["sample"] else 10 ** max(share.decimals, 0)
    total, supply = got["total_assets"].value, got["total_supply"].value
    if den == SAMPLE and total is not None and supply is not None:
        offset = max(share.decimals - asset.decimals, 0)
        for a, s in ((total + 1, supply + 10**offset), (total, supply)):
            if s and SAMPLE * a // s == rate.value:
                num, den = a, s
                break
    yield Claim(share.id, asset.id, "vault", num, den, market, src=rate.src())

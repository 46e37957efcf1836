"""ERC-4626 vaults: a share is a claim on the vault's asset; its holders come from Transfer events.

The rate is what `convertToAssets` answers. It rounds down, so it is asked for 10^36 shares; where that equals the ratio
of OpenZeppelin's ERC4626 (totalAssets + 1 over totalSupply + 10^offset) or of the plain totals, the exact ratio is kept
and a holder's amount equals the vault's own answer to the last unit. Source: EIP-4626; OpenZeppelin ERC4626.sol 5.1.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence

from aggregator.core.ids import erc20
from aggregator.core.rows import Asset, Claim, Exposure, Gap, Index, Market, PositionRow, Row, Term, Total
from aggregator.sdk.adapter import Adapter, Answer, Call, Revert, Target, View, Where
from aggregator.sdk.rows import ZERO, ask, assets, fill, gap

SAMPLE = 10**36
TRANSFER = "Transfer(address indexed from,address indexed to,uint256 value)"


class Erc4626(Adapter):
    name = "erc4626"

    async def discover(self, view: View, where: Where, since: int) -> AsyncIterator[Target]:
        known = {m.market for m in where.markets}
        vaults = {vault: Target(f"{where.id}/{vault}") for vault in _vaults(where)}
        new = [vault for vault, target in vaults.items() if target.market not in known]
        seen = set[Target]()
        # a vault added to the configuration later has a history before what was read last
        for begin, some in ((where.start_block, new), (since, [vault for vault in vaults if vault not in new])):
            if not some:
                continue
            async for log in view.logs(some, [TRANSFER], begin):
                for holder in (log.args["from"], log.args["to"]):
                    target = vaults[log.address]._replace(holder=holder)
                    if holder != ZERO and target not in seen:
                        seen.add(target)
                        yield target
        for vault in new:
            yield vaults[vault]

    async def terms(self, view: View, where: Where) -> AsyncIterator[Row]:
        vaults = _vaults(where)
        questions = {
            "asset": "asset()(address)",
            "total_assets": "totalAssets()(uint256)",
            "total_supply": "totalSupply()(uint256)",
        }
        asked = await ask(view, [{key: Call(vault, sig) for key, sig in questions.items()} for vault in vaults])
        known = [(v, got, a) for v, got in zip(vaults, asked, strict=True) if isinstance(a := got["asset"], Answer)]
        named = await assets(view, [a for vault, _, asset in known for a in (vault, asset.value)])
        more = await ask(view, [_rates(vault, asset.value, named[vault]) for vault, _, asset in known])
        for row in named.rows:
            yield row
        for vault, got in zip(vaults, asked, strict=True):
            if isinstance(got["asset"], Revert):
                yield gap(got["asset"], f"{where.id}/{vault}", "asset")
        for (vault, got, asset), rates in zip(known, more, strict=True):
            for row in _terms(f"{where.id}/{vault}", named[vault], named[asset.value], {**got, **rates}):
                yield row

    async def read(self, view: View, where: Where, targets: Sequence[Target]) -> AsyncIterator[PositionRow | Gap]:
        accounts = [t for t in targets if t.holder]
        vaults = [t.market.rsplit("/", 1)[1] for t in accounts]
        sig = "balanceOf(address)(uint256)"
        balances = await view.calls([Call(v, sig, (t.holder,)) for v, t in zip(vaults, accounts, strict=True)])
        for t, vault, balance in zip(accounts, vaults, balances, strict=True):
            if isinstance(balance, Revert):
                yield gap(balance, f"{t.market}#{t.holder}", "balanceOf", accounts=1)
            elif balance.value:
                share = erc20(where.chain, vault)
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
        "available_liquidity": Call(asset, "balanceOf(address)(uint256)", (vault,)),
    }


def _terms(market: str, share: Asset, asset: Asset, got: dict[str, Answer | Revert]) -> Iterator[Row]:
    yield Market(market, "vault", "", share.symbol, got["asset"].src() if isinstance(got["asset"], Answer) else b"")
    for key in ("total_assets", "total_supply", "available_liquidity"):
        yield fill(got[key], Term(market, "", "", key, 0, 0), market, key)
    yield fill(got["total_supply"], Total(market, share.id, "supply", 0), market, "totalSupply")
    yield Index(market, share.id, "supply", 1, 1, "down")
    rate = got["sample"] if isinstance(got["sample"], Answer) else got["whole"]  # a huge sample overflows some vaults
    if isinstance(rate, Revert):
        yield gap(rate, share.id, "convertToAssets")
        return
    den = SAMPLE if rate is got["sample"] else 10 ** max(share.decimals, 0)
    num = rate.value
    if (
        den == SAMPLE
        and isinstance(total := got["total_assets"], Answer)
        and isinstance(supply := got["total_supply"], Answer)
    ):
        offset = max(share.decimals - asset.decimals, 0)
        for a, s in ((total.value + 1, supply.value + 10**offset), (total.value, supply.value)):
            if s and SAMPLE * a // s == rate.value:
                num, den = a, s
                break
    yield Claim(share.id, asset.id, "vault", num, den, market, src=rate.src())

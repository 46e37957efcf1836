"""ERC-4626 vaults on OpenZeppelin 5.1, over a token or over an Aave receipt token, as assets of a world."""

from __future__ import annotations

from dataclasses import dataclass

from tests.devnet.aave import Aave
from tests.devnet.anvil import Chain, Receipt
from tests.devnet.contract import Contract
from tests.devnet.tokens import Asset
from tests.devnet.toolchain import Toolchain


@dataclass(frozen=True, eq=False)
class AToken(Asset):
    """An Aave receipt token; minting one is supplying to the pool."""

    market: Aave

    def mint(self, to: str, raw: int) -> None:
        self.market.supply(to, self.symbol.removeprefix("a"), raw + 1)  # the pool rounds its shares down


@dataclass(frozen=True, eq=False)
class VaultShare(Asset):
    """A vault and its share token, which are one contract. `feed` prices a share."""

    underlying: Asset

    @property
    def addresses(self) -> dict[str, str]:
        """Keys of our deployment configuration."""
        return {"vault": self.address}

    def mint(self, to: str, raw: int) -> None:
        """Bring `raw` new shares to an account, paid for with fresh underlying."""
        assets = self.token.call("previewMint", raw)
        self.underlying.provide(to, self.token, assets + 1)
        self.token.send("mint(uint256,address)", raw, to, sender=to)

    def deposit(self, user: str, assets: int) -> Receipt:
        """Deposit fresh underlying."""
        self.underlying.provide(user, self.token, assets)
        return self.token.send("deposit", assets, user, sender=user)

    def redeem(self, user: str, shares: int) -> Receipt:
        return self.token.send("redeem", shares, user, user, sender=user)

    def earn(self, assets: int) -> None:
        """Assets arrive and no shares are made: the rate goes up."""
        self.underlying.mint(self.address, assets)

    def lose(self, assets: int) -> Receipt:
        """Assets leave and no shares are burned: the rate goes down."""
        return self.token.send("lose", assets)


def a_token(market: Aave, symbol: str) -> AToken:
    """The receipt token of a reserve as an asset, at the price of what it stands for."""
    asset = market.asset(symbol)
    return AToken(f"a{symbol}", asset.decimals, market.a_token(symbol), asset.feed, market)


def deploy_vault(tools: Toolchain, chain: Chain, underlying: Asset, symbol: str, offset: int = 0) -> VaultShare:
    """A vault whose shares have `offset` more decimals than its asset."""
    ours = tools.build("ours")
    vault = chain.deploy(ours["Vault"], underlying.address, f"{symbol} vault", symbol, offset)
    feed: Contract = chain.deploy(ours["VaultShareFeed"], vault, underlying.address, underlying.feed, f"{symbol} / USD")
    return VaultShare(symbol, underlying.decimals + offset, vault, feed, underlying)

"""Assets of a world: a mintable token with its price feed."""

from __future__ import annotations

from dataclasses import dataclass

from tests.devnet.anvil import Chain
from tests.devnet.contract import Contract
from tests.devnet.toolchain import Toolchain

UINT256_MAX = 2**256 - 1
ZERO_ADDRESS = "0x" + "00" * 20
FEED_DECIMALS = 8


@dataclass(frozen=True, eq=False)
class Asset:
    """`feed` answers US dollars with 8 decimals. For a vault share `token` is the vault, and nobody mints it."""

    symbol: str
    decimals: int
    token: Contract
    feed: Contract

    @property
    def address(self) -> str:
        return self.token.address

    @property
    def price_usd_e8(self) -> int:
        price: int = self.feed.call("latestAnswer")
        return price

    def raw(self, amount: float) -> int:
        """Smallest units of a round amount."""
        return int(amount * 10**self.decimals)

    def worth(self, usd: float) -> int:
        """Smallest units that are worth `usd` at the feed's price."""
        return int(usd * 10 ** (self.decimals + FEED_DECIMALS)) // self.price_usd_e8

    def set_price(self, usd: float) -> None:
        self.feed.send("set", round(usd * 10**FEED_DECIMALS))

    def mint(self, to: str, raw: int) -> None:
        self.token.send("mint", to, raw)

    def approve(self, owner: str, spender: str | Contract) -> None:
        """Unlimited, once."""
        where = spender.address if isinstance(spender, Contract) else spender
        if self.token.call("allowance", owner, where) < 2**255:
            self.token.send("approve", where, UINT256_MAX, sender=owner)

    def provide(self, owner: str, spender: str | Contract, raw: int) -> None:
        """Mint to the owner and let the spender take it."""
        self.mint(owner, raw)
        self.approve(owner, spender)


def deploy_asset(tools: Toolchain, chain: Chain, symbol: str, decimals: int, price_usd: float) -> Asset:
    """A new token and its feed."""
    ours = tools.build("ours")
    token = chain.deploy(ours["Token"], f"{symbol} (test)", symbol, decimals)
    return Asset(symbol, decimals, token, deploy_feed(tools, chain, f"{symbol} / USD", price_usd))


def deploy_feed(tools: Toolchain, chain: Chain, description: str, price_usd: float) -> Contract:
    """A feed with 8 decimals."""
    answer = round(price_usd * 10**FEED_DECIMALS)
    return chain.deploy(tools.build("ours")["PriceFeed"], FEED_DECIMALS, answer, description)

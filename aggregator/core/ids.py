"""Names of things. Identity is the id, never the symbol.

    source      eip155:1 | venue:deribit | book:<digest>        where a fact was read
    asset       eip155:1/erc20:0x... | eip155:1/erc721:0x.../7 | eip155:1/slip44:60 | iso4217:USD | venue:deribit/BTC
    deployment  eip155:1/aave_v3/core                           source / adapter / name
    market      eip155:1/aave_v3/core | eip155:1/morpho_blue/core/0x<id>
                the unit in which health is judged: (market, holder) is one account
    holder      0x... in lower case (EVM), the venue's own account name elsewhere

Addresses inside ids are lower case; checksums are for display.
"""

from __future__ import annotations

import re
import sys
import unicodedata

from aggregator.core.errors import ConfigError

USD = "iso4217:USD"
_ADDRESS = re.compile(r"0[xX][0-9a-fA-F]{40}\Z")
_HEX = re.compile(r"0[xX][0-9a-fA-F]+\Z")


def chain_source(chain: int) -> str:
    return f"eip155:{chain}"


def venue_source(venue: str) -> str:
    return f"venue:{venue}"


def in_book(identifier: str) -> bool:
    """Whether it is a book's own: an import, whose names and prices are its author's."""
    return identifier.startswith("book:")


def source_of(identifier: str) -> str:
    """The source part of a deployment, market or on-chain asset id."""
    return identifier.split("/", 1)[0]


def chain_of(identifier: str) -> int | None:
    """EIP-155 chain id of an id, None for venues, books and fiat."""
    source = source_of(identifier)
    return int(source[7:]) if source.startswith("eip155:") else None


def chain_or_source(identifier: str) -> int | str:
    """What answers call `chain`: the EIP-155 id of a source or anything on it, else the source's own name."""
    chain = chain_of(identifier)
    return source_of(identifier) if chain is None else chain


def chain_order(chain: int | str) -> tuple[int, str]:
    """Sorts what answers call `chain`: chains by their number, then the other sources by name."""
    return (chain, "") if isinstance(chain, int) else (sys.maxsize, chain)


def deployment_id(source: str, adapter: str, name: str) -> str:
    return f"{source}/{adapter}/{name}"


def adapter_of(deployment_or_market: str) -> str:
    return deployment_or_market.split("/")[1]


def erc20(chain: int, address: str) -> str:
    return f"eip155:{chain}/erc20:{address.lower()}"


def erc721(chain: int, address: str, token_id: int) -> str:
    return f"eip155:{chain}/erc721:{address.lower()}/{token_id}"


def native(chain: int) -> str:
    return f"eip155:{chain}/slip44:60"


def address_of(asset: str) -> str:
    """Contract address of an erc20/erc721 id; ConfigError for any other id."""
    found = re.search(r"0x[0-9a-f]{40}", asset)
    if not found:
        raise ConfigError("asset has no contract address", expected="eip155:<chain>/erc20:0x...", found=asset)
    return found.group()


def is_address(text: str) -> bool:
    """An EVM address by its form, checksum aside."""
    return bool(_ADDRESS.match(text))


def holder_name(text: str) -> str:
    """An account as it is stored and looked up: hexadecimal in lower case, accents of other names composed."""
    return text.lower() if _HEX.match(text) else unicodedata.normalize("NFC", text)


def parse_address(text: str) -> str:
    """EVM address as typed by a person -> lower case; ConfigError otherwise."""
    if not _ADDRESS.match(text.strip()):
        raise ConfigError(
            "not an EVM address",
            expected="0x followed by 40 hexadecimal digits",
            found=text,
            fix="names such as ENS are not resolved; pass the address",
        )
    return text.strip().lower()

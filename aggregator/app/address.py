"""Addresses that a person typed: a mixed-case one carries a checksum, and a wrong one is a typing error."""

from __future__ import annotations

from aggregator.core.errors import ConfigError
from aggregator.core.ids import parse_address


def typed_address(text: str) -> str:
    """EVM address -> lower case. ConfigError if it is none, or if its mixed case breaks EIP-55.

    All lower and all upper case carry no checksum and are taken as they stand.
    """
    address, digits = parse_address(text), text.strip()[2:]
    if digits in (digits.lower(), digits.upper()):
        return address
    if digits != (right := _checksum(address)):
        raise ConfigError(
            "an address with a wrong checksum (EIP-55)",
            expected=f"0x{right}, if its digits are right",
            found=text.strip(),
            fix="copy it again; in lower case it is taken as it stands",
        )
    return address


def _checksum(address: str) -> str:
    """EIP-55: a letter is upper case where the nibble of keccak256(lower-case digits) at its place is above 7."""
    from eth_hash.auto import keccak

    digits = address[2:]
    nibbles = keccak(digits.encode()).hex()
    return "".join(c.upper() if int(n, 16) > 7 else c for c, n in zip(digits, nibbles, strict=False))

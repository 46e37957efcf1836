"""Block headers as nodes give them, checked field by field before anything is believed."""

from __future__ import annotations

from typing import Any, NamedTuple

from aggregator.core.errors import MalformedAnswerError, shown


class Header(NamedTuple):
    number: int
    hash: str
    parent_hash: str
    time_s: int


def quantity(value: Any, what: str) -> int:
    """'0x1f' -> 31; MalformedAnswerError for anything else, and above 2^64."""
    if isinstance(value, str) and value.startswith("0x") and 3 <= len(value) <= 18:
        try:
            return int(value[2:], 16)
        except ValueError:
            pass
    raise MalformedAnswerError(f"{what} is not a quantity", expected="0x-hex below 2^64", found=shown(value))


def hash32(value: Any, what: str) -> str:
    """32-byte 0x-hex in lower case, else MalformedAnswerError."""
    if isinstance(value, str) and len(value) == 66 and value.startswith("0x"):
        try:
            return "0x" + bytes.fromhex(value[2:]).hex()
        except ValueError:
            pass
    raise MalformedAnswerError(f"{what} is not a hash", expected="0x and 64 hexadecimal digits", found=shown(value))


def parse_header(block: Any, expected_number: int | None = None) -> Header:
    """eth_getBlockByNumber result -> Header; MalformedAnswerError if it is not one or is another block."""
    if not isinstance(block, dict):
        raise MalformedAnswerError("block header is not an object", expected="a block", found=shown(block))
    header = Header(
        quantity(block.get("number"), "block number"),
        hash32(block.get("hash"), "block hash"),
        hash32(block.get("parentHash"), "parent hash"),
        quantity(block.get("timestamp"), "block timestamp"),
    )
    if expected_number is not None and header.number != expected_number:
        raise MalformedAnswerError(
            "the node answered with another block", expected=str(expected_number), found=str(header.number)
        )
    return header


def not_pinned(block: Any, number: int, pinned: str) -> str:
    """Why this answer does not prove that the node's block `number` is the pinned one, '' if it does."""
    found = block.get("hash") if isinstance(block, dict) else None
    return "" if found == pinned else f"block {number} has hash {found}, pinned {pinned}"

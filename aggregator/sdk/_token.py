"""Token metadata from raw answers: contracts disagree about what symbol() returns and whether decimals() exists."""

from __future__ import annotations

from aggregator.chain.abi import function
from aggregator.chain.answers import Failure
from aggregator.core.ids import erc20
from aggregator.core.rows import Asset, Gap
from aggregator.core.source import call_source

MAX_DECIMALS = 36
_SYMBOL, _DECIMALS, _NAME = (function(f"{name}()").selector for name in ("symbol", "decimals", "name"))
TOKEN_CALLS = (_SYMBOL, _DECIMALS, _NAME)


def token(
    chain: int, address: str, symbol: bytes | Failure, decimals: bytes | Failure, name: bytes | Failure
) -> tuple[Asset, Gap | None]:
    """Asset and what is wrong with it. decimals -1 with Gap no_code, or bad_decimals where missing or above 36."""
    identifier, src = erc20(chain, address), call_source(address, _DECIMALS)
    count, gap = -1, None
    if isinstance(decimals, Failure):
        reason = "no_code" if decimals.no_code else "bad_decimals"
        gap = Gap(identifier, reason, f"decimals() failed: {decimals.reason or 'no reason given'}", src=src)
    elif len(decimals) != 32 or (count := int.from_bytes(decimals, "big")) > MAX_DECIMALS:
        found = f"{len(decimals)} bytes" if len(decimals) != 32 else str(count) if count < 2**64 else "more than 2^64"
        count, gap = (
            -1,
            Gap(identifier, "bad_decimals", f"decimals() is {found}, at most {MAX_DECIMALS} taken", src=src),
        )
    return Asset(identifier, display(text(symbol)), count, display(text(name), 64), src), gap


def text(answer: bytes | Failure) -> str:
    """ABI string, or bytes32 padded with zeros as early tokens have it; '' where there is none."""
    if isinstance(answer, Failure):
        return ""
    raw = answer.rstrip(b"\0") if len(answer) == 32 else b""
    if len(answer) >= 64 and int.from_bytes(answer[:32], "big") == 32:
        raw = answer[64 : 64 + min(int.from_bytes(answer[32:64], "big"), 4096)]
    return raw.decode("utf-8", "backslashreplace")


def display(text: str, limit: int = 32) -> str:
    """Control, zero-width and direction characters written out as escapes, so that none acts and none is lost; cut."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: 4 * limit])
    return shown if len(shown) <= limit and len(text) <= 4 * limit else shown[: limit - 1] + "…"

"""Where a number came from, in a few bytes: the tail of every row, the root of every explanation.

b''                                      derived or written by a person
0x01 | word u8 | to 20 bytes | calldata  word-th 32-byte word of a call's answer at the cut's block
0x02 | block u64 | index u32 | address   log `index` of `block`
0x03 | utf-8                             HTTP venue: method path?query#json-pointer
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from aggregator.core.errors import DomainError


class CallSource(NamedTuple):
    to: str
    data: bytes
    word: int


class LogSource(NamedTuple):
    block: int
    log_index: int
    address: str


class HttpSource(NamedTuple):
    path: str


def call_source(to: str, data: bytes, word: int = 0) -> bytes:
    return _call_prefix(to, word) + data


@lru_cache(maxsize=4096)  # few contracts, many questions
def _call_prefix(to: str, word: int) -> bytes:
    return b"\x01" + bytes((word,)) + bytes.fromhex(to[2:])


def log_source(block: int, index: int, address: str) -> bytes:
    return b"\x02" + block.to_bytes(8, "big") + index.to_bytes(4, "big") + bytes.fromhex(address[2:])


def http_source(path: str) -> bytes:
    return b"\x03" + path.encode()


def read_source(src: bytes) -> CallSource | LogSource | HttpSource | None:
    if not src:
        return None
    if src[0] == 1:
        return CallSource("0x" + src[2:22].hex(), src[22:], src[1])
    if src[0] == 2:
        return LogSource(int.from_bytes(src[1:9], "big"), int.from_bytes(src[9:13], "big"), "0x" + src[13:33].hex())
    if src[0] == 3:
        return HttpSource(src[1:].decode())
    raise DomainError("unknown kind of source", expected="1, 2 or 3", found=str(src[0]))

"""Static ABI answers decoded as arrays, exactly: each 32-byte word is four 64-bit limbs, most significant first.

Strict like Solidity's own decoder (ABI specification, "strict encoding mode"): a word outside its type, an answer too
short or too long is malformed and never becomes a value. eth-abi decodes dynamic types and is the oracle in tests.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.chain.abi_types import Layout, layout
from aggregator.core.errors import ConfigError, MalformedAnswerError

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Words(NamedTuple):
    """n answers of w words. limbs (n, w, 4) uint64, native order; raw (n, w, 32) uint8, the same words as bytes."""

    limbs: U64
    raw: npt.NDArray[np.uint8]

    @classmethod
    def gather(cls, buffer: bytes, start: I64, width: int) -> Words:
        """The `width` words that begin at each start (bytes, multiples of 32)."""
        whole = np.frombuffer(buffer, dtype=np.uint8, count=len(buffer) // 32 * 32).reshape(-1, 32)
        first = start // 32
        if len(first) and (np.diff(first) == width).all():  # back to back: no copy
            raw = whole[int(first[0]) : int(first[0]) + width * len(first)].reshape(len(first), width, 32)
        else:
            raw = whole[first[:, None] + np.arange(width, dtype=np.int64)]
        return cls(raw.view(">u8").astype(np.uint64), raw)

    def column(self, word: int) -> tuple[U64, npt.NDArray[np.uint8]]:
        return self.limbs[:, word], self.raw[:, word]


def decode_static(types: Sequence[str], blobs: Sequence[bytes]) -> list[list[Any]]:
    """One list of exact Python values per type, over all blobs. MalformedAnswerError names the first bad blob."""
    layouts = static_layouts(types)
    if layouts is None:
        raise ConfigError("dynamic type has no fixed layout", expected="static types", found=", ".join(types))
    width = sum(one.words for one in layouts)
    for i, blob in enumerate(blobs):
        if len(blob) != 32 * width:
            raise MalformedAnswerError(
                f"answer {i} has the wrong length", expected=str(32 * width), found=str(len(blob))
            )
    words = Words.gather(b"".join(blobs), np.arange(len(blobs), dtype=np.int64) * (32 * width), width)
    good, columns = decode_words(layouts, words)
    if not good.all():
        raise MalformedAnswerError(f"answer {int(np.argmin(good))} is outside its type", expected=", ".join(types))
    return columns


def static_layouts(types: Iterable[str]) -> tuple[Layout, ...] | None:
    found = tuple(layout(one) for one in types)
    known = tuple(one for one in found if one is not None)
    return known if len(known) == len(found) else None


def decode_words(layouts: Sequence[Layout], words: Words) -> tuple[Mask, list[list[Any]]]:
    """(n,) mask of rows whose words all lie inside their types, and a list of values per layout (junk where not)."""
    good = np.ones(len(words.limbs), dtype=np.bool_)
    columns, at = [], 0
    for one in layouts:
        columns.append(_values(one, words, at, good))
        at += one.words
    return good, columns


def _values(one: Layout, words: Words, at: int, good: Mask) -> list[Any]:
    if one.kind == "tuple":
        parts = []
        for item in one.items:
            parts.append(_values(item, words, at, good))
            at += item.words
        return list(zip(*parts, strict=True)) if parts else list(repeat((), len(good)))
    limbs, raw = words.column(at)
    if one.kind == "uint":
        if one.bits < 256:
            good &= _high_bits_zero(limbs, one.bits)
        return uint_values(limbs, raw)
    if one.kind == "int":
        return _int_values(limbs, raw, one.bits, good)
    if one.kind == "bool":
        good &= ~limbs[:, :3].any(axis=1) & (limbs[:, 3] <= 1)
        return list((limbs[:, 3] != 0).tolist())
    if one.kind == "address":
        good &= _high_bits_zero(limbs, 160)
        text = np.ascontiguousarray(raw[:, 12:]).tobytes().hex()
        return ["0x" + text[i : i + 40] for i in range(0, len(text), 40)]
    size = one.bits // 8
    good &= ~raw[:, size:].any(axis=1)
    return _pieces(raw[:, :size])


def uint_values(limbs: U64, raw: npt.NDArray[np.uint8]) -> list[int]:
    """(n, 4) limbs -> exact Python ints."""
    if not limbs[:, :3].any():
        return list(limbs[:, 3].tolist())
    return list(map(int.from_bytes, _pieces(raw)))  # big-endian is the default


def _int_values(limbs: U64, raw: npt.NDArray[np.uint8], bits: int, good: Mask) -> list[int]:
    sign = limbs[:, 0] >> np.uint64(63) == 1
    if bits < 256:
        magnitude = np.where(sign[:, None], ~limbs, limbs)
        good &= _high_bits_zero(magnitude, bits - 1)
    low = limbs[:, 3].astype(np.int64)
    extended = np.where(low < 0, np.uint64(2**64 - 1), np.uint64(0))
    if (limbs[:, :3] == extended[:, None]).all():
        return list(low.tolist())
    return [int.from_bytes(piece, "big", signed=True) for piece in _pieces(raw)]


def _pieces(raw: npt.NDArray[np.uint8]) -> list[bytes]:
    """(n, k) uint8 -> n bytes objects of k, cut in C."""
    return list(np.ascontiguousarray(raw).view(f"V{raw.shape[1]}").ravel().tolist())


def _high_bits_zero(limbs: U64, bits: int) -> Mask:
    """Rows that are below 2^bits."""
    full, rest = divmod(bits, 64)
    first = 3 - full  # the limb that holds bit `bits`
    good: Mask = np.asarray(limbs[:, first] >> np.uint64(rest) == 0) & ~limbs[:, :first].any(axis=1)
    return good

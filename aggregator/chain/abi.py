"""Human signatures -> selector, calldata, decoded answers.

'balanceOf(address)(uint256)'; names and `view returns` may stand in it.
Addresses are lower-case 0x-hex, bytes are bytes, integers exact, tuples and arrays tuples.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from eth_abi.abi import decode, encode
from eth_abi.exceptions import DecodingError, EncodingError, EncodingTypeError
from eth_utils.crypto import keccak

from aggregator.chain.abi_types import Layout, balanced, layout, name_of, split_types
from aggregator.chain.answers import Answers, Failure
from aggregator.chain.decode import I64, Words, decode_words, static_layouts
from aggregator.core.errors import ConfigError, SpilloverError

Values = tuple[Any, ...]
_UNFIT = (EncodingError, EncodingTypeError, ValueError, TypeError, OverflowError, AttributeError)


class Function:
    """selector (4 bytes), inputs and outputs as canonical types, `static_size` of an answer in bytes or None."""

    def __init__(self, sig: str) -> None:
        text = sig.strip().removeprefix("function ").rstrip(" ;")
        self.sig, self.name = sig, name_of(text, sig)
        opening = text.index("(")
        closing = balanced(text, opening, sig)
        rest = text[closing:]
        outputs = rest[rest.index("(") :] if "(" in rest else "()"
        self.inputs = split_types(text[opening:closing], sig)
        self.outputs = split_types(outputs, sig)
        self.selector: bytes = keccak(text=f"{self.name}({','.join(self.inputs)})")[:4]
        encoders = [_ENCODERS.get(one) or _encoder(one) for one in self.inputs]
        self._encoders = [one for one in encoders if one]
        self._one_word_each = len(self._encoders) == len(encoders)
        self._layouts = static_layouts(self.outputs)
        self.static_size = None if self._layouts is None else 32 * sum(one.words for one in self._layouts)
        array = self.outputs[0] if len(self.outputs) == 1 and self.outputs[0].endswith("[]") else ""
        self._item = layout(array[:-2]) if array else None

    def encode(self, args: Sequence[Any]) -> bytes:
        """Selector and arguments; ConfigError if they do not fit the types."""
        if len(args) != len(self.inputs):
            raise _unfit(self.sig, f"{len(args)} arguments")
        try:
            if not self._one_word_each:
                return self.selector + encode(self.inputs, args)
            return self.selector + b"".join([e(a) for e, a in zip(self._encoders, args, strict=True)])
        except _UNFIT:
            raise _unfit(self.sig, repr(tuple(args))[:200]) from None

    def encode_column(self, values: Sequence[Any]) -> bytes:
        """Calldatas of one argument each, back to back; it must take one word."""
        if not self._one_word_each or len(self._encoders) != 1:
            raise _unfit(self.sig, "a column of single words")
        try:
            return self.selector + self.selector.join(map(self._encoders[0], values)) if values else b""
        except _UNFIT:
            return b"".join([self.encode((value,)) for value in values])  # says which

    def column(self, answers: Answers, rows: I64) -> list[Any]:
        """What `decode` gives, single outputs without their tuples."""
        if self._layouts is not None and len(self._layouts) == 1 and (answers.size[rows] == self.static_size).all():
            words = Words.gather(answers.buffer, answers.start[rows], self._layouts[0].words)
            good, (values,) = decode_words(self._layouts, words)
            if good.all():
                return values
        found = self.decode(answers, rows)
        return [v[0] if len(v) == 1 and not isinstance(v, Failure) else v for v in found]

    def decode(self, answers: Answers, rows: I64) -> list[Values | Failure]:
        """Values of the answers in `rows` (none failed); a malformed one is a Failure that says how."""
        if self._layouts is None:
            return [self._decode_dynamic(answers.blob(int(row))) for row in rows]
        size = self.static_size or 0
        fits = answers.size[rows] == size
        words = Words.gather(answers.buffer, answers.start[rows[fits]], size // 32)
        good, columns = decode_words(self._layouts, words)
        values: list[Values | Failure] = list(zip(*columns, strict=True)) if columns else [()] * len(good)
        if not good.all():
            bad = Failure(f"malformed answer: outside {','.join(self.outputs)}")
            values = [value if ok else bad for value, ok in zip(values, good.tolist(), strict=True)]
        if fits.all():
            return values
        left = iter(values)
        sizes = answers.size[rows].tolist()
        return [next(left) if n == size else Failure(f"malformed answer: {n} bytes, expected {size}") for n in sizes]

    def _decode_dynamic(self, blob: bytes | Failure) -> Values | Failure:
        if isinstance(blob, Failure):
            return blob
        if self._item is not None:
            return _decode_array(self._item, blob)
        try:
            return tuple(decode(self.outputs, blob))
        except (DecodingError, ValueError, OverflowError) as error:
            return Failure(f"malformed answer: {type(error).__name__} in {len(blob)} bytes")


@lru_cache(maxsize=4096)
def function(sig: str) -> Function:
    """Parsed once per signature; ConfigError if it is none."""
    return Function(sig)


def _decode_array(item: Layout, blob: bytes) -> Values | Failure:
    """T[] with static T: offset 0x20, length, items."""
    count = int.from_bytes(blob[32:64], "big") if len(blob) >= 64 else -1
    if count < 0 or int.from_bytes(blob[:32], "big") != 32 or len(blob) != 64 + 32 * item.words * count:
        return Failure(f"malformed answer: array in {len(blob)} bytes")
    start = 64 + 32 * item.words * np.arange(count, dtype=np.int64)
    good, columns = decode_words((item,), Words.gather(blob, start, item.words))
    return (tuple(columns[0]),) if good.all() else Failure("malformed answer: array item outside its type")


def revert_reason(data: bytes, message: str = "") -> str:
    """Error(string) and Panic(uint256) decoded, else the custom error's selector, else the node's words; cut at 256."""
    reason = message
    if data[:4] == b"\x08\xc3\x79\xa0":
        try:
            reason = str(decode(["string"], data[4:])[0])
        except (DecodingError, ValueError, OverflowError):
            reason = "malformed Error(string)"
    elif data[:4] == b"\x4e\x48\x7b\x71" and len(data) == 36:
        reason = f"panic 0x{int.from_bytes(data[4:], 'big'):02x}"
    elif len(data) >= 4:
        reason = f"custom error 0x{data[:4].hex()}"
    return "".join(c if c.isprintable() else " " for c in reason)[:256]


def _unfit(sig: str, found: str) -> SpilloverError:
    return ConfigError("arguments do not fit the signature", expected=sig, found=found)


@lru_cache(maxsize=65536)  # a slice asks several contracts about the same accounts
def _address(value: Any) -> bytes:
    if not isinstance(value, str) or len(value) != 42 or not value.startswith("0x"):
        raise ValueError
    return _ZEROS12 + bytes.fromhex(value[2:])


def _bool(value: Any) -> bytes:
    if not isinstance(value, bool):
        raise TypeError
    return _TRUE if value else _FALSE


def _encoder(type_str: str) -> Callable[[Any], bytes] | None:
    """Encoder of a one-word type, None if eth-abi must do it."""
    one = layout(type_str)
    if one is None or one.kind == "tuple":
        return None
    if one.kind == "bytes":
        size = one.bits // 8

        def fixed_bytes(value: Any) -> bytes:
            data: bytes = bytes.fromhex(value.removeprefix("0x")) if isinstance(value, str) else bytes(value)
            if len(data) > size or isinstance(value, int):
                raise ValueError
            return data.ljust(32, b"\0")

        return fixed_bytes
    signed = one.kind == "int"
    low, high = (-(1 << one.bits - 1), 1 << one.bits - 1) if signed else (0, 1 << one.bits)

    def integer(value: Any) -> bytes:
        if not low <= value < high or isinstance(value, bool):
            raise ValueError
        data: bytes = value.to_bytes(32, "big", signed=signed)
        return data

    return integer


_ZEROS12, _TRUE, _FALSE = bytes(12), bytes(31) + b"\1", bytes(32)
_ENCODERS: dict[str, Callable[[Any], bytes]] = {"address": _address, "bool": _bool}

"""Solidity types as written by people -> eth-abi's grammar, and the layout of static ones in 32-byte words."""

from __future__ import annotations

import re
from math import prod
from typing import Any, NamedTuple

from eth_abi.exceptions import ABITypeError, ParseError
from eth_abi.grammar import BasicType, TupleType, normalize, parse

from aggregator.core.errors import ConfigError

_NAME = re.compile(r"(?<=[\w)\]])\s+[A-Za-z_$][\w$]*(?=\s*[,)])")  # 'uint256 amount,' -> 'uint256,'
_MAX_WORDS, _MAX_DEPTH = 100_000, 32
_LOCATION = re.compile(r"\s+(memory|calldata|storage|payable)\b")


class Layout(NamedTuple):
    """A static type. words: its length. kind: uint int bool address bytes tuple; bits: of a number or bytesN."""

    kind: str
    bits: int
    words: int
    items: tuple[Layout, ...] = ()


def name_of(text: str, sig: str) -> str:
    """What stands before the first parenthesis; ConfigError unless it is a Solidity name."""
    name, opening, _ = text.partition("(")
    if not opening or not re.fullmatch(r"[A-Za-z_$][\w$]*", name.strip(), re.ASCII):
        raise _bad(sig)
    return name.strip()


def split_types(text: str, sig: str) -> tuple[str, ...]:
    """'(uint a,(bool,address[]) b)' -> ('uint256', '(bool,address[])'), without names; ConfigError if it is no list."""
    stripped = text.strip()
    if not stripped.startswith("(") or balanced(stripped, 0, sig) != len(stripped):
        raise _bad(sig)
    bare = _NAME.sub("", _LOCATION.sub("", stripped)).replace(" ", "").replace("tuple(", "(")
    if bare == "()":
        return ()
    try:
        parsed = parse(str(normalize(bare)))  # type: ignore[no-untyped-call]
        parsed.validate()
    except (ParseError, ABITypeError, ValueError):
        raise _bad(sig) from None
    if not isinstance(parsed, TupleType) or parsed.arrlist or not _known(parsed) or _words(parsed) > _MAX_WORDS:
        raise _bad(sig)
    return tuple(component.to_type_str() for component in parsed.components)


def layout(type_str: str) -> Layout | None:
    """Layout of a static type, None for a dynamic one."""
    return _layout(parse(type_str))


def _known(parsed: Any) -> bool:
    """Whether all elementary types exist: eth-abi's grammar takes any word for one."""
    if isinstance(parsed, TupleType):
        return all(_known(component) for component in parsed.components)
    return parsed.base in ("uint", "int", "bool", "address", "bytes", "string")


def _words(parsed: Any) -> int:
    """32-byte words of the static arrays in a type: one written too long would be laid out word by word."""
    own: int = sum(map(_words, parsed.components)) if isinstance(parsed, TupleType) else 1
    return own * prod(int(size[0]) for size in parsed.arrlist or () if size)


def _layout(parsed: Any) -> Layout | None:
    if parsed.is_dynamic:
        return None
    if parsed.arrlist:
        (count,) = parsed.arrlist[-1]
        item = _layout(parsed.item_type)
        return None if item is None else Layout("tuple", 0, item.words * count, (item,) * count)
    if isinstance(parsed, TupleType):
        items = tuple(_layout(component) for component in parsed.components)
        known = tuple(item for item in items if item is not None)
        return Layout("tuple", 0, sum(item.words for item in known), known) if len(known) == len(items) else None
    if isinstance(parsed, BasicType) and parsed.base in ("uint", "int"):
        return Layout(parsed.base, int(parsed.sub), 1)
    if isinstance(parsed, BasicType) and parsed.base == "bytes" and parsed.sub:
        return Layout("bytes", 8 * int(parsed.sub), 1)
    if isinstance(parsed, BasicType) and parsed.base in ("bool", "address"):
        return Layout(parsed.base, 0, 1)
    return None


def balanced(text: str, start: int, sig: str) -> int:
    """Index after the parenthesis that closes the one at `start`."""
    depth = 0
    for i in range(start, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i + 1
        if depth > _MAX_DEPTH:
            break
    raise _bad(sig)


def _bad(sig: str) -> ConfigError:
    return ConfigError(
        "not a signature", expected="name(types)(types), e.g. 'balanceOf(address)(uint256)'", found=sig[:200]
    )

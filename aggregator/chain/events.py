"""Event signatures -> topic, and raw logs -> decoded arguments, grouped so that static data decodes as arrays.

'Transfer(address indexed from,address indexed to,uint256 value)'. Indexed strings, bytes and arrays come as their
32-byte hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from eth_utils.crypto import keccak

from aggregator.chain.abi import Function
from aggregator.chain.abi_types import balanced, layout, name_of, split_types
from aggregator.chain.answers import Answers, Failure
from aggregator.core.errors import ConfigError, MalformedAnswerError


class RawLog(NamedTuple):
    """A log as the node gave it, checked and normalised. topics and data as bytes."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes
    block: int
    log_index: int
    tx: str


class DecodedLog(NamedTuple):
    """Field for field what the sdk calls a Log."""

    address: str
    event: str
    args: Mapping[str, Any]
    block: int
    log_index: int
    tx: str


class Event:
    """topic: keccak of the canonical signature. indexed, plain: (name, type) of arguments; order: all names."""

    def __init__(self, sig: str) -> None:
        text = sig.strip().removeprefix("event ").rstrip(" ;")
        self.sig, self.name = sig, name_of(text, sig)
        opening = text.index("(")
        if balanced(text, opening, sig) != len(text):
            raise ConfigError("not an event", expected="Name(type indexed name,type name)", found=sig[:200])
        arguments = [_argument(part, sig) for part in _split(text[opening + 1 : text.rindex(")")])]
        types = split_types(f"({','.join(kind for kind, _, _ in arguments)})", sig)
        self.topic: bytes = keccak(text=f"{self.name}({','.join(types)})")
        self.order = [name for _, _, name in arguments]
        if len(set(self.order)) < len(self.order):
            raise ConfigError("event arguments share a name", expected="distinct names", found=sig[:200])
        pairs = list(zip(arguments, types, strict=True))
        self.indexed = [(name, _topic_type(kind)) for (_, indexed, name), kind in pairs if indexed]
        if len(self.indexed) > 3:
            raise ConfigError("too many indexed arguments", expected="at most 3", found=sig[:200])
        self.plain = [(name, kind) for (_, indexed, name), kind in pairs if not indexed]
        self._topics = Function(f"topics()({','.join(kind for _, kind in self.indexed)})")
        self._data = Function(f"data()({','.join(kind for _, kind in self.plain)})")

    def fits(self, log: RawLog) -> bool:
        """Same topic and as many indexed arguments: ERC-20 and ERC-721 share Transfer's topic, not its indexing."""
        if len(log.topics) != 1 + len(self.indexed) or log.topics[0] != self.topic:
            return False
        size = self._data.static_size
        return len(log.data) == size if size is not None else True

    def decode(self, logs: Sequence[RawLog]) -> list[dict[str, Any]]:
        """Arguments by name in declared order; MalformedAnswerError names the log that does not fit."""
        rows = np.arange(len(logs))
        topics = self._topics.decode(Answers.of([b"".join(log.topics[1:]) for log in logs]), rows)
        data = self._data.decode(Answers.of([log.data for log in logs]), rows)
        names = [name for name, _ in self.indexed] + [name for name, _ in self.plain]
        places, ordered = [names.index(name) for name in self.order], names == self.order
        out = []
        for log, indexed, plain in zip(logs, topics, data, strict=True):
            if isinstance(indexed, Failure) or isinstance(plain, Failure):
                raise MalformedAnswerError(
                    f"log {log.log_index} of block {log.block} does not decode", expected=self.sig, found=log.address
                )
            values = indexed + plain
            out.append(dict(zip(self.order, values if ordered else [values[i] for i in places], strict=True)))
        return out


@lru_cache(maxsize=1024)
def event(sig: str) -> Event:
    return Event(sig)


def decode_logs(events: Sequence[str], logs: Sequence[RawLog], *, any_contract: bool) -> list[DecodedLog]:
    """In the order of `logs`. A log whose indexing differs from the declared event is another event: left out where any
    contract is read, MalformedAnswerError where the contract was named.
    """
    known = [event(sig) for sig in events]
    by_topic: dict[bytes, list[Event]] = {}
    for one in known:
        by_topic.setdefault(one.topic, []).append(one)
    groups: dict[str, list[int]] = {}
    for i, log in enumerate(logs):
        fitting = next((one for one in by_topic.get(log.topics[0], ()) if one.fits(log)), None)
        if fitting is not None:
            groups.setdefault(fitting.sig, []).append(i)
        elif not any_contract:
            raise MalformedAnswerError(
                f"log {log.log_index} of block {log.block} at {log.address} is not as declared",
                expected=" or ".join(one.sig for one in by_topic.get(log.topics[0], known)),
                found=f"{len(log.topics) - 1} indexed arguments and {len(log.data)} bytes of data",
                fix="correct the event's signature in the adapter",
            )
    out: list[tuple[int, DecodedLog]] = []
    for sig, rows in groups.items():
        one = event(sig)
        chosen = [logs[i] for i in rows]
        for i, log, args in zip(rows, chosen, one.decode(chosen), strict=True):
            out.append((i, DecodedLog(log.address, one.name, args, log.block, log.log_index, log.tx)))
    out.sort(key=lambda pair: pair[0])
    return [log for _, log in out]


def topic_word(value: str) -> str:
    """A filter for an indexed argument -> 32-byte lower-case hex; addresses are padded. ConfigError otherwise."""
    try:
        raw = bytes.fromhex(value.removeprefix("0x"))
    except ValueError:
        raw = b""
    if len(raw) not in (20, 32):
        raise ConfigError("not a topic", expected="a 32-byte hex word or an address", found=value[:80])
    return "0x" + raw.rjust(32, b"\0").hex()


def _split(text: str) -> Iterable[str]:
    depth, begin = 0, 0
    for i, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if c == "," and depth == 0:
            yield text[begin:i].strip()
            begin = i + 1
    if text.strip():
        yield text[begin:].strip()


def _argument(text: str, sig: str) -> tuple[str, bool, str]:
    """'address indexed from' -> (type, indexed, name)."""
    words = text.rsplit(None, 2)
    if len(words) >= 2 and words[-1].isidentifier() and words[-1] != "indexed":
        indexed = len(words) == 3 and words[1] == "indexed"
        kind = words[0] if indexed else text[: text.rindex(words[-1])].strip()
        return kind, indexed, words[-1]
    raise ConfigError("event argument has no name", expected="type [indexed] name", found=f"{text!r} in {sig[:200]}")


def _topic_type(kind: str) -> str:
    one = layout(kind)
    return kind if one is not None and one.kind != "tuple" else "bytes32"

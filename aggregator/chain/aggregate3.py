"""Calldata and answers of Multicall3's aggregate3 as arrays.

Multicall3 (mds1/multicall3): aggregate3((address target,bool allowFailure,bytes callData)[]) payable returns
((bool success,bytes returnData)[]).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple, overload

import numpy as np
import numpy.typing as npt

from aggregator.chain.answers import Answers
from aggregator.core.errors import MalformedAnswerError

Pair = tuple[str, bytes]  # lower-case address, calldata

_SELECTOR = bytes.fromhex("82ad56cb")
_HEAD = (32).to_bytes(32, "big")
_MIDDLE = (1).to_bytes(32, "big") + (96).to_bytes(32, "big")  # allowFailure, offset of callData


class Run(NamedTuple):
    """Questions to one contract: their calldatas, of `size` bytes each, back to back."""

    to: str
    size: int
    data: bytes


class Runs(Sequence[Pair]):
    """Pairs that are not made one by one unless somebody wants them so."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self.runs = runs
        self._count = sum(len(run.data) // run.size for run in runs)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Pair]:
        for to, size, data in self.runs:
            for at in range(0, len(data), size):
                yield to, data[at : at + size]

    @overload
    def __getitem__(self, at: int) -> Pair: ...
    @overload
    def __getitem__(self, at: slice) -> list[Pair]: ...
    def __getitem__(self, at: int | slice) -> Pair | list[Pair]:
        return list(self)[at]


def total_bytes(pairs: Sequence[Pair]) -> int:
    """Calldata of all pairs together."""
    if isinstance(pairs, Runs):
        return sum(len(run.data) for run in pairs.runs)
    return sum([len(data) for _, data in pairs])


def encode_aggregate3(pairs: Sequence[Pair], first: Sequence[Pair] = ()) -> bytes:
    """Calldata of aggregate3 with allowFailure for every call: `first`, then `pairs`."""
    tails = [*_tails(first), *_tails(pairs)]
    n = len(first) + len(pairs)
    heads = np.zeros((n, 4), dtype=">u8")
    heads[1:, 3] = np.cumsum(np.repeat([tail.shape[1] for tail in tails], [len(tail) for tail in tails]))[:-1]
    heads[:, 3] += 32 * n
    return b"".join([_SELECTOR, _HEAD, n.to_bytes(32, "big"), heads.data, *[tail.data for tail in tails]])


def _tails(pairs: Sequence[Pair]) -> Iterator[npt.NDArray[np.uint8]]:
    """(calls, bytes) of neighbours with calldata of one length: they mostly ask the same question."""
    if isinstance(pairs, Runs):
        for to, size, data in pairs.runs:
            yield _tail(_target(to), size, data)
        return
    first = 0
    for size, run in groupby([len(data) for _, data in pairs]):
        last = first + len(list(run))
        tos, datas = zip(*pairs[first:last], strict=True)
        first = last
        yield _tail(b"".join(map(_target, tos)), size, b"".join(datas), len(tos))


def _tail(targets: bytes, size: int, data: bytes, count: int | None = None) -> npt.NDArray[np.uint8]:
    n = len(data) // size if count is None else count
    tail = np.zeros((n, 128 + size + -size % 32), dtype=np.uint8)
    tail[:, :96] = np.frombuffer(targets, dtype=np.uint8).reshape(-1, 96)
    tail[:, 96:128] = np.frombuffer(size.to_bytes(32, "big"), dtype=np.uint8)
    tail[:, 128 : 128 + size] = np.frombuffer(data, dtype=np.uint8).reshape(n, size)
    return tail


@lru_cache(maxsize=4096)
def _target(to: str) -> bytes:
    return bytes(12) + bytes.fromhex(to[2:]) + _MIDDLE


def decode_aggregate3(answer: bytes, count: int) -> tuple[npt.NDArray[np.bool_], Answers]:
    """(success (n,), answers) of ((bool,bytes)[]); MalformedAnswerError unless it is that with `count` members."""
    if len(answer) % 32 or len(answer) < 64 + 128 * count:
        raise malformed(f"{len(answer)} bytes for {count} calls")
    words = np.frombuffer(answer, dtype=">u8").reshape(-1, 4)
    if len(answer) == 64 + 160 * count:  # what nearly all are: successes of one word each, as Solidity lays them out
        head, member = _one_word_each(count)
        members = words[2 + count :].reshape(count, 4, 4)[:, :3]
        if answer.startswith(head) and (members == member).all():
            start = len(head) + 96 + 128 * np.arange(count, dtype=np.int64)
            return np.ones(count, dtype=np.bool_), Answers(answer, start, np.full(count, 32, dtype=np.int64), {})

    def numbers(index: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        if len(index) and not 0 <= int(index.min()) <= int(index.max()) < len(words):
            raise malformed("an offset lies outside the answer")
        chosen = words[index]
        if chosen[:, :3].any() or (chosen[:, 3] >= 2**62).any():
            raise malformed("an offset or length is too large")
        return chosen[:, 3].astype(np.int64)

    if numbers(np.array([0, 1])).tolist() != [32, count]:
        raise malformed(f"not an array of {count}")
    offsets = numbers(2 + np.arange(count))
    first = 2 + offsets // 32  # word of the tuple: success, offset of bytes, length, data
    success, inner, size = numbers(first), numbers(first + 1), numbers(first + 2)
    start = 32 * (first + 3)
    if (offsets % 32).any() or (success > 1).any() or (inner != 64).any() or (start + size > len(answer)).any():
        raise malformed("a member is not (bool,bytes)")
    return success.astype(np.bool_), Answers(answer, start, size, {})


@lru_cache(maxsize=64)
def _one_word_each(count: int) -> tuple[bytes, npt.NDArray[np.uint64]]:
    """The head of an answer whose `count` members are (true, one word), and the first three words of each member."""
    numbers = [32, count, *(32 * count + 128 * i for i in range(count))]
    words = np.zeros((3, 4), dtype=np.uint64)
    words[:, 3] = 1, 64, 32
    return b"".join(n.to_bytes(32, "big") for n in numbers), words


def malformed(found: str) -> MalformedAnswerError:
    return MalformedAnswerError("the answer to eth_call is malformed", expected="ABI words as 0x-hex", found=found)


def hex_bytes(result: object) -> bytes:
    """'0x..' -> bytes; MalformedAnswerError otherwise."""
    if isinstance(result, str) and result.startswith("0x"):
        try:
            return bytes.fromhex(result[2:])
        except ValueError:
            pass
    raise malformed(f"not 0x-hex: {str(result)[:40]!r}")

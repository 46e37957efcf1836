"""Raw answers of many calls in one buffer, so that decoding is array work and a call costs no object of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt

I8 = npt.NDArray[np.int64]


class Failure(NamedTuple):
    """A call that failed when asked alone. reason: decoded text, '' if none. no_code: nothing lives at the address."""

    reason: str
    no_code: bool = False


class Answers(NamedTuple):
    """buffer: answers, each beginning at a multiple of 32. start, size (n,): where each one lies; size -1 = failed."""

    buffer: bytes
    start: I8
    size: I8
    failures: Mapping[int, Failure]

    def blob(self, i: int) -> bytes | Failure:
        if (size := int(self.size[i])) < 0:
            return self.failures[i]
        start = int(self.start[i])
        return self.buffer[start : start + size]

    @classmethod
    def of(cls, blobs: Sequence[bytes | Failure]) -> Self:
        failures = {i: b for i, b in enumerate(blobs) if isinstance(b, Failure)}
        sizes = np.array([-1 if i in failures else len(b) for i, b in enumerate(blobs)], dtype=np.int64)
        padded = (np.maximum(sizes, 0) + 31) // 32 * 32
        parts = [b if len(b) % 32 == 0 else b + bytes(-len(b) % 32) for b in blobs if not isinstance(b, Failure)]
        return cls(b"".join(parts), np.cumsum(padded) - padded, sizes, failures)

    @classmethod
    def join(cls, parts: Sequence[Answers]) -> Self:
        """One after another; buffers are whole words, so alignment stays."""
        if len(parts) == 1:
            return cls(*parts[0])
        starts, failures, at, first = [], dict[int, Failure](), 0, 0
        for part in parts:
            starts.append(part.start + at)
            failures.update({first + i: f for i, f in part.failures.items()})
            at += len(part.buffer)
            first += len(part.size)
        empty = np.zeros(0, dtype=np.int64)
        return cls(
            b"".join(part.buffer for part in parts),
            np.concatenate([empty, *starts]),
            np.concatenate([empty, *(part.size for part in parts)]),
            failures,
        )

    def part(self, begin: int, end: int) -> Answers:
        """Rows [begin, end) over the same buffer."""
        failures = {i - begin: f for i, f in self.failures.items() if begin <= i < end}
        return Answers(self.buffer, self.start[begin:end], self.size[begin:end], failures)

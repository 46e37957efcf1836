"""Where in time a run reads: one block per chain, one sequence and time per venue."""

from __future__ import annotations

import hashlib
import json
from typing import NamedTuple


class BlockRef(NamedTuple):
    """One source frozen at one point.

    source    eip155:<chain>, venue:<name> or book:<digest>
    number    block number, or the venue's own sequence (microseconds of server time where it has none)
    hash      block hash; for venues and books a digest of what was read, '' until known
    time_s    block timestamp or venue server time, unix seconds; never our clock
    finality  finalized | safe | latest | <n> (blocks behind the head) | venue | import
    """

    source: str
    number: int
    hash: str
    time_s: int
    finality: str

    @property
    def chain(self) -> int | None:
        return int(self.source[7:]) if self.source.startswith("eip155:") else None


class Cut(NamedTuple):
    """All sources of one run, sorted by source. Same blocks, same digest.

    An imported book is named by its files alone: the time it was written is no part of its digest.
    """

    blocks: tuple[BlockRef, ...]

    @classmethod
    def of(cls, blocks: list[BlockRef] | tuple[BlockRef, ...]) -> Cut:
        return cls(tuple(sorted(blocks)))

    @property
    def digest(self) -> str:
        named = [b._replace(time_s=0) if b.finality == "import" else b for b in self.blocks]
        text = json.dumps([list(b) for b in named], separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    @property
    def skew_s(self) -> int:
        times = [b.time_s for b in self.blocks]
        return max(times) - min(times) if times else 0

    @property
    def time_s(self) -> int:
        """The youngest time in the cut: age is measured from here."""
        return max((b.time_s for b in self.blocks), default=0)

    def at(self, source: str) -> BlockRef | None:
        return next((b for b in self.blocks if b.source == source), None)

"""The sources of a run: each frozen at one point, what a reorg dropped undone, and why any of them cannot take part."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from aggregator.core.block import BlockRef
from aggregator.core.errors import SourceError, SpilloverError, WrongChainError
from aggregator.ingest.discover import Progress
from aggregator.sdk.adapter import View, Where
from aggregator.store import Store

log = logging.getLogger("spillover.ingest")


class Stats(Protocol):
    @property
    def calls(self) -> int: ...
    @property
    def requests(self) -> int: ...
    @property
    def bytes_in(self) -> int: ...
    @property
    def bytes_out(self) -> int: ...


class Source(Protocol):
    """A chain or venue that can be frozen at one point; live or replayed."""

    @property
    def id(self) -> str: ...

    @property
    def stats(self) -> Stats:
        """What reading it has cost so far."""
        ...

    async def pin(self, at_least: int = 0) -> BlockRef:
        """at_least: the last block that was read of it; below that no run can begin."""
        ...

    async def find_fork(self, known: Sequence[BlockRef]) -> BlockRef | None:
        """The newest of `known` (newest first) that is still canonical, None if none is."""
        ...

    def view(self, at: BlockRef) -> View: ...

    def seal(self, at: BlockRef) -> BlockRef:
        """The pinned point once all is read: venues learn their digest only then."""
        ...


@dataclass(slots=True)
class Pinned:
    """at: source -> its point. failed: source -> why it has none. behind: deployment -> why it alone must wait.

    rewound: source -> block kept, where a reorg was undone.
    """

    at: dict[str, BlockRef] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    behind: dict[str, str] = field(default_factory=dict)
    rewound: dict[str, int] = field(default_factory=dict)

    def objection(self, where: Where) -> str | None:
        """Why the deployment cannot be read now."""
        if where.source not in self.at:
            return self.failed.get(where.source, "not configured")
        return self.behind.get(where.id)

    def require(self, deployments: Sequence[Where]) -> None:
        """SourceError if no source, or none with a deployment, has a point."""
        if not self.at or (deployments and not any(w.source in self.at for w in deployments)):
            raise SourceError(
                "no source could be read",
                expected="at least one endpoint that answers",
                found="; ".join(f"{source}: {why}" for source, why in sorted(self.failed.items())),
                fix="`spillover doctor` checks each endpoint and says how to mend it",
            )

    def drop(self, source: Source, why: str | Exception) -> None:
        if isinstance(why, Exception):
            log.warning("%s cannot be read: %s", source.id, why)
            why = f"{why.message} ({why.found})" if isinstance(why, SpilloverError) else str(why)
        self.failed[source.id] = why
        self.at.pop(source.id, None)


async def pin(store: Store, sources: Sequence[Source], progress: Callable[[Progress], None]) -> Pinned:
    """`freeze`, and what a reorg dropped is undone in the store."""
    pinned = await freeze(store, sources, progress)
    for check in (_undo_reorg, _check_discoveries):
        for source in sources:
            if source.id in pinned.at:
                await check(store, source, pinned)
    return pinned


async def freeze(store: Store, sources: Sequence[Source], progress: Callable[[Progress], None]) -> Pinned:
    """All sources at once. A source that fails is said in the result; WrongChainError ends the run."""
    pinned = Pinned()
    last = [next((b.number for b in store.blocks(s.id)), 0) for s in sources]
    answers = await asyncio.gather(*(s.pin(n) for s, n in zip(sources, last, strict=True)), return_exceptions=True)
    for done, (source, answer) in enumerate(zip(sources, answers, strict=True), 1):
        if isinstance(answer, BlockRef):
            pinned.at[source.id] = answer
        elif isinstance(answer, WrongChainError):
            raise answer  # a configuration that points at another chain would store lies
        elif isinstance(answer, SpilloverError | OSError | asyncio.TimeoutError):
            pinned.drop(source, answer)
        elif isinstance(answer, BaseException):
            raise answer
        progress(Progress(source.id, "pin", done, len(sources)))
    return pinned


async def _undo_reorg(store: Store, source: Source, pinned: Pinned) -> None:
    known, head = store.blocks(source.id), pinned.at[source.id].number
    if not known or not source.id.startswith("eip155:"):
        return
    if known[0].number > head:
        pinned.drop(source, f"the endpoint is at block {head}, behind the last cut at {known[0].number}")
        return
    try:
        fork = await source.find_fork(known)
    except SourceError as error:
        pinned.drop(source, error)
        return
    if fork != known[0]:
        number = fork.number if fork else -1
        log.warning("%s: blocks above %d were reorganised away; undoing them", source.id, number)
        store.rewind(source.id, number)
        pinned.rewound[source.id] = number


async def _check_discoveries(store: Store, source: Source, pinned: Pinned) -> None:
    """Drop checkpoints seen from a block that is no longer canonical: before the first cut nothing else tells.

    A deployment must wait whose checkpoint was seen from a block that the endpoint does not have yet.
    """
    head = pinned.at[source.id].number
    for name, (_, at) in store.discoveries(source.id).items():
        if at.number > head:
            pinned.behind[name] = f"the endpoint is at block {head}, behind the discovery seen from {at.number}"
            continue
        try:
            gone = await source.find_fork([at]) is None
        except SourceError as error:
            pinned.drop(source, error)
            return
        if gone:
            log.warning("%s: block %d was reorganised away; its discovery begins again", name, at.number)
            store.drop_discovery(name)

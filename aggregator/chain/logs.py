"""eth_getLogs over any range: shrinks where a node refuses, grows again, and believes no log that was not asked for."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from functools import lru_cache
from typing import Any

from aggregator.chain.aggregate3 import hex_bytes
from aggregator.chain.events import RawLog, event, topic_word
from aggregator.chain.header import hash32, not_pinned, quantity
from aggregator.chain.pool import RpcPool
from aggregator.chain.rpc_error import RpcError
from aggregator.chain.stats import Stats
from aggregator.core.block import BlockRef
from aggregator.core.errors import ConfigError, MalformedAnswerError, SourceError, shown

_MAX_ADDRESSES = 500
_FIRST_SPAN = 100_000


class LogFilter:
    """What to look for, canonical: sorted lower-case addresses (none = any contract), topics by position."""

    def __init__(self, addresses: Sequence[str], events: Sequence[str], topics: Sequence[Sequence[str] | None]) -> None:
        self.addresses = tuple(sorted({address.lower() for address in addresses}))
        first = tuple(sorted({"0x" + event(sig).topic.hex() for sig in events}))
        rest = tuple(None if words is None else tuple(sorted({topic_word(w) for w in words})) for words in topics)
        while rest and rest[-1] is None:
            rest = rest[:-1]
        self.topics: tuple[tuple[str, ...] | None, ...] = (first, *rest)

        if not first:
            raise ConfigError("no event to look for", expected="at least one event signature", found="none")
        self._address_set = frozenset(self.addresses)
        self._topic_sets = [None if w is None else frozenset(bytes.fromhex(x[2:]) for x in w) for w in self.topics]

    def objection(self, log: RawLog, low: int, high: int) -> str:
        """Why this log cannot be an answer, '' if it can."""
        if not low <= log.block <= high:
            return f"a log of block {log.block} outside [{low}, {high}]"
        if self.addresses and log.address not in self._address_set:
            return f"a log of {log.address}, which was not asked for"
        for position, words in enumerate(self._topic_sets):
            if words is not None and (position >= len(log.topics) or log.topics[position] not in words):
                return f"a log whose topic {position} was not asked for"
        return ""


async def read_logs(
    pool: RpcPool, at: BlockRef, wanted: LogFilter, since: int, last: int | None = None, *, stats: Stats
) -> AsyncIterator[list[RawLog]]:
    """Logs of blocks [since, last] (last: the pinned one by default) in order, in pieces.

    Each request also proves, in the same HTTP batch, that the endpoint's block `at.number` is the pinned one: a lagging
    or forked node has no say, and its [] is not believed.
    """
    low, span, ceiling = max(0, since), _FIRST_SPAN, 2**63
    last = at.number if last is None else min(last, at.number)
    while low <= last:
        high = min(last, low + span - 1)
        found = await _range(pool, at, wanted, low, high, stats)
        if isinstance(found, RpcError):
            if low == high:
                raise SourceError(
                    f"no endpoint of {at.source} gives the logs of block {low}",
                    expected="logs of one block",
                    found=found.rpc_message,
                    fix="use an endpoint with a higher limit on log answers",
                )
            ceiling = high - low + 1
            span = max(1, ceiling // 2)
            continue
        stats.logs += len(found)
        yield found
        low = high + 1
        span = min(span * 2, max(span, ceiling - 1))
        ceiling = ceiling * 5 // 4  # a refusal in a crowded range is no verdict on the next


async def _range(
    pool: RpcPool, at: BlockRef, wanted: LogFilter, low: int, high: int, stats: Stats
) -> list[RawLog] | RpcError:
    groups: list[tuple[str, ...]] = [
        wanted.addresses[i : i + _MAX_ADDRESSES] for i in range(0, len(wanted.addresses), _MAX_ADDRESSES)
    ] or [()]
    out: list[RawLog] = []
    for addresses in groups:
        query: dict[str, Any] = {"fromBlock": hex(low), "toBlock": hex(high)}
        query["topics"] = [None if words is None else list(words) for words in wanted.topics]
        if addresses:
            query["address"] = list(addresses) if len(addresses) > 1 else addresses[0]
        items = [("eth_getLogs", [query]), ("eth_getBlockByNumber", [hex(at.number), False])]
        stats.batches += 1
        parsed: list[RawLog] = []
        accept = _acceptable(at, wanted, low, high, parsed)
        answer = (await pool.batch(items, accept=accept, whole=low == high, stats=stats))[0]
        if isinstance(answer, RpcError):
            if answer.is_log_range or answer.is_too_big or (low < high and not answer.is_node_trouble):
                return answer  # in words that nobody has heard yet it is worth a smaller try
            raise SourceError(
                f"no endpoint of {at.source} gives logs", expected=f"logs of [{low}, {high}]", found=answer.rpc_message
            )
        if len(answer) >= 1000 and len(answer) % 1000 == 0 and high > low:
            return RpcError(413, f"{len(answer)} logs look like a silent cap")
        out += parsed
    unique = {(log.block, log.log_index): log for log in out}
    return [unique[key] for key in sorted(unique)]


def _acceptable(
    at: BlockRef, wanted: LogFilter, low: int, high: int, parsed: list[RawLog]
) -> Callable[[list[Any]], str]:
    def accept(answers: list[Any]) -> str:
        logs, block = answers
        if isinstance(logs, RpcError) and isinstance(block, RpcError):
            return ""  # refused as a whole, for its size perhaps: no log is believed
        if objection := not_pinned(block, at.number, at.hash):
            return objection
        if isinstance(logs, RpcError):
            return ""
        if not isinstance(logs, list):
            return "eth_getLogs answered no list"
        seen: dict[tuple[int, int], RawLog] = {}
        forks: dict[int, object] = {at.number: at.hash}
        parsed.clear()
        for raw in logs:
            try:
                log = _parse(raw)
            except MalformedAnswerError as error:
                return error.message
            if objection := wanted.objection(log, low, high):
                return objection
            if forks.setdefault(log.block, raw.get("blockHash")) != raw.get("blockHash"):
                return f"a log of another block {log.block}"
            if seen.setdefault((log.block, log.log_index), log) != log:
                return f"two logs {log.log_index} in block {log.block}"
            parsed.append(log)
        return ""

    return accept


@lru_cache(maxsize=65536)  # events and accounts repeat
def _topic(word: Any) -> bytes:
    return bytes.fromhex(hash32(word, "topic")[2:])


def _parse(raw: Any) -> RawLog:
    if not isinstance(raw, dict) or raw.get("removed") is True or not _are_words(raw.get("topics")):
        raise MalformedAnswerError("not a log", expected="a log of the canonical chain", found=shown(raw, 120))
    address = raw.get("address")
    if not isinstance(address, str) or len(address) != 42:
        raise MalformedAnswerError("log without an address", expected="0x and 40 digits", found=shown(address))
    return RawLog(
        address.lower(),
        tuple([_topic(topic) for topic in raw["topics"]]),
        hex_bytes(raw.get("data")),
        quantity(raw.get("blockNumber"), "block number of a log"),
        quantity(raw.get("logIndex"), "log index"),
        hash32(raw.get("transactionHash"), "transaction hash"),
    )


def _are_words(topics: Any) -> bool:
    return isinstance(topics, list) and all(isinstance(topic, str) for topic in topics)

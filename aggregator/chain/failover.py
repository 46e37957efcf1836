"""One request to a chain, answered by whichever of its endpoints can: budget, retry, failover, deadline, pinned blocks.

All reads of a cut name its block hash (EIP-1898). A node that does not know EIP-1898 is asked by number, and its hash
for that number is checked before and after in the same HTTP request.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aggregator.chain.endpoint import Endpoint, Failed, Item
from aggregator.chain.header import hash32, not_pinned, quantity
from aggregator.chain.redact import Redactor
from aggregator.chain.rpc_error import RpcError
from aggregator.chain.session import SessionOwner
from aggregator.chain.stats import Stats
from aggregator.core.block import BlockRef
from aggregator.core.errors import (
    BlockMismatchError,
    ConfigError,
    MalformedAnswerError,
    RateLimitedError,
    SourceError,
    WrongChainError,
)
from aggregator.core.ids import chain_source

Check = Callable[[list[Any]], str]  # why these results of one endpoint are not acceptable, '' if they are
_READS = ("eth_get", "eth_call", "eth_block", "eth_chainId", "eth_estimate", "eth_fee", "eth_gas", "eth_syncing",
          "eth_createAccessList", "eth_maxPriority", "eth_blob", "net_", "web3_", "debug_", "trace_")  # fmt: skip


@dataclass(slots=True)
class _Request:
    """A request on its way. todo: places of the items to ask; out: what is known; seen: each endpoint's last fault."""

    items: Sequence[Item]
    whole: bool
    stats: Stats
    deadline: float
    rounds: int = 0
    todo: list[int] = field(init=False)
    out: list[Any] = field(init=False)
    seen: dict[Endpoint, Failed] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.todo, self.out = list(range(len(self.items))), [None] * len(self.items)


class Failover(SessionOwner):
    """Several URLs of one chain; every failure is a SourceError without any URL in it.

    max_per_s: JSON-RPC items per second and endpoint. timeout_s: one attempt. deadline_s: one request with all retries.
    rounds: how often all endpoints are tried before a request fails. backoff_s: the first pause between two rounds,
    doubled up to 5 s. patience_s: how long endpoints that all are asked at once (`pin`) may be slower than the first.
    """

    def __init__(
        self,
        chain: int,
        urls: Sequence[str],
        *,
        max_per_s: float = math.inf,
        timeout_s: float = 30.0,
        deadline_s: float = 120.0,
        rounds: int = 5,
        backoff_s: float = 0.1,
        patience_s: float = 5.0,
        in_flight: int = 16,
    ) -> None:
        super().__init__()
        if not urls:
            raise ConfigError(f"chain {chain} has no endpoint", expected="rpc = ['http://...']", found="none",
                              fix=f"set it in the configuration or in SPILLOVER_RPC_{chain}")  # fmt: skip
        self.chain, self.source = chain, chain_source(chain)
        self.endpoints = [Endpoint(url, max_per_s if max_per_s > 0 else math.inf) for url in urls]
        self.redact = Redactor(urls)
        self.timeout_s, self.deadline_s, self.rounds = timeout_s, deadline_s, max(1, rounds)
        self.backoff_s, self.patience_s = backoff_s, patience_s
        self.stats = Stats()
        self._numbers: dict[str, int] = {}
        self._slots = asyncio.Semaphore(in_flight)

    async def request(self, method: str, params: Any = (), *, stats: Stats | None = None) -> Any:
        """One read; RpcError if the node refuses it, SourceError if no endpoint answers in time."""
        (answer,) = await self.batch([(method, params)], stats=stats)
        if isinstance(answer, RpcError):
            raise answer
        return answer

    async def batch(
        self, items: Sequence[Item], *, accept: Check | None = None, whole: bool = False, stats: Stats | None = None
    ) -> list[Any]:
        """Results aligned with items, RpcError in place where an item was refused. One HTTP request per attempt.

        accept judges a whole answer of one endpoint; if it objects, the next endpoint is asked. whole: the items cannot
        be made smaller, so what is too big for one endpoint is asked of the others.
        Raises SourceError (RateLimitedError, WrongChainError) when no endpoint answers before the deadline.
        """
        clock = asyncio.get_running_loop().time
        request = _Request(items, whole, stats or self.stats, clock() + self.deadline_s)
        writes = any(not method.startswith(_READS) for method, _ in items)
        tried, backoff_s = set[Endpoint](), self.backoff_s
        while request.todo:
            endpoint, wait_s = self._choose(tried, clock())
            if endpoint is None:
                request.rounds += 1
                if request.rounds >= self.rounds or writes:
                    break
                tried.clear()
                wait_s, backoff_s = backoff_s, min(2 * backoff_s, 5.0)
            if clock() + wait_s >= request.deadline:
                break
            if wait_s:
                await asyncio.sleep(wait_s)
            if endpoint is None or endpoint.cool_until_s > clock():
                continue
            part = [items[i] for i in request.todo]
            answer = _judged(await self._attempt(endpoint, part, request.deadline, request.stats), accept)
            if isinstance(answer, Failed):
                request.seen[endpoint] = self._blame(endpoint, answer, clock())
                if answer.kind != "rate":  # that one waits its pause out; it costs no round
                    tried.add(endpoint)
                if writes and answer.kind != "rate":
                    break  # it may have been done
                request.stats.retries += 1
                continue
            endpoint.failures = 0
            if left := self._sort_out(request, endpoint, answer):
                left = request.todo if accept else left  # what is judged as a whole is asked as a whole
                if endpoint.cool_until_s <= clock():
                    tried.add(endpoint)
                request.stats.retries += 1
            request.todo = left
        if any(not isinstance(request.out[i], RpcError) for i in request.todo):
            raise self._gave_up(items[request.todo[0]][0], request.seen)
        return request.out

    def _choose(self, tried: set[Endpoint], now_s: float) -> tuple[Endpoint | None, float]:
        """The endpoint that can answer first among those not tried, and the seconds until it may be asked."""
        fresh = [e for e in self.endpoints if e not in tried]
        if not fresh:
            return None, 0.0
        best = min(
            fresh, key=lambda e: max(0.0, *(t - now_s for t in (e.cool_until_s, e.shun_until_s, e.next_free_s - 1)))
        )
        if tried and best.cool_until_s > now_s:
            return None, 0.0  # rather another round over those that are awake
        return best, max(0.0, best.cool_until_s - now_s)

    async def _attempt(
        self, endpoint: Endpoint, items: list[Item], deadline: float, stats: Stats
    ) -> list[Any] | Failed:
        clock = asyncio.get_running_loop().time
        if not endpoint.chain_known and (failed := await self._check_chain(endpoint, deadline, stats)):
            return failed
        wait_s = endpoint.reserve(len(items), clock())
        if clock() + wait_s >= deadline:
            return Failed("rate", "the rate budget reaches past the deadline", wait_s)
        if wait_s:
            await asyncio.sleep(wait_s)
        async with self._slots:
            timeout_s = max(0.001, min(self.timeout_s, deadline - clock()))
            pinned = {h: n for _, params in items if (h := _pinned(params)) and (n := self._numbers.get(h)) is not None}
            if endpoint.by_number and pinned:
                return await self._by_number(endpoint, items, pinned, timeout_s, stats)
            answer = await endpoint.post(self.session(), items, timeout_s, stats)
            if (
                pinned
                and isinstance(answer, list)
                and all(isinstance(a, RpcError) and a.is_block_object for a in answer)
            ):
                second = await self._by_number(endpoint, items, pinned, timeout_s, stats)
                endpoint.by_number = isinstance(second, list) and not all(isinstance(a, RpcError) for a in second)
                return second if endpoint.by_number or isinstance(second, Failed) else answer
        return answer

    async def _by_number(
        self, endpoint: Endpoint, items: list[Item], pinned: dict[str, int], timeout_s: float, stats: Stats
    ) -> list[Any] | Failed:
        plain = [(method, _unpinned(params, pinned)) for method, params in items]
        guard = [("eth_getBlockByNumber", [hex(number), False]) for number in pinned.values()]
        answer = await endpoint.post(self.session(), [*guard, *plain, *guard], timeout_s, stats)
        if isinstance(answer, Failed):
            return answer
        n = len(guard)
        if all(isinstance(a, RpcError) for a in answer):
            return answer[n:-n]  # refused as a whole: nothing is believed of it
        for block, wanted in zip(answer[:n] + answer[-n:], [*pinned, *pinned], strict=True):
            if objection := not_pinned(block, pinned[wanted], wanted):
                return Failed("lie", objection)
        return answer[n:-n]

    def _sort_out(self, request: _Request, endpoint: Endpoint, answer: list[Any]) -> list[int]:
        """Keep what is final; the items to ask again (once, or in all rounds where a node may yet get the block)."""
        left = []
        now_s = asyncio.get_running_loop().time()
        for i, result in zip(request.todo, answer, strict=True):
            if isinstance(result, Failed):
                request.seen[endpoint] = self._blame(endpoint, result, now_s)
                left.append(i)
            elif isinstance(result, RpcError):
                result = RpcError(result.rpc_code, self.redact(result.rpc_message), result.data)
                if result.is_rate:
                    request.seen[endpoint] = self._blame(endpoint, Failed("rate", result.rpc_message), now_s)
                    left.append(i)
                    continue
                request.out[i] = result
                final = result.is_final(request.items[i][0]) and not (request.whole and result.is_size)
                if not final and request.rounds < (self.rounds if result.is_no_state else 1):
                    request.seen[endpoint] = Failed("refused", result.rpc_message)
                    left.append(i)
            else:
                request.out[i] = result
        return left

    def _blame(self, endpoint: Endpoint, failed: Failed, now_s: float) -> Failed:
        endpoint.last_failure = self.redact(failed.text)
        if failed.kind == "rate":
            endpoint.cool(failed.retry_after_s or 1.0, now_s)
        else:
            endpoint.shun(now_s, 120.0 if failed.kind == "auth" else failed.retry_after_s)
        return failed._replace(text=endpoint.last_failure)

    def _gave_up(self, method: str, seen: Mapping[Endpoint, Failed]) -> SourceError:
        late = Failed("", "not reached before the deadline")
        kinds = {seen.get(e, late).kind for e in self.endpoints}
        kind = RateLimitedError if kinds == {"rate"} else BlockMismatchError if "lie" in kinds else SourceError
        return kind(
            f"no endpoint of {self.source} answered {method}",
            expected=f"an answer within {self.deadline_s:g} s",
            found="; ".join(f"{e.name}: {seen.get(e, late).text}" for e in self.endpoints),
            fix="check the endpoints with `spillover doctor`, add another, or lower the request rate",
        )

    def at_block(self, at: BlockRef) -> dict[str, Any]:
        """The EIP-1898 block parameter of a pinned block."""
        self._numbers[hash32(at.hash, "block hash")] = at.number
        return {"blockHash": at.hash, "requireCanonical": True}

    # -- whose chain an endpoint serves

    async def _check_chain(self, endpoint: Endpoint, deadline: float, stats: Stats) -> Failed | None:
        before = endpoint.chain_failed
        async with endpoint.chain_lock:
            if not endpoint.chain_known and endpoint.chain_failed is before:  # else somebody asked while we waited
                clock = asyncio.get_running_loop().time
                timeout_s = max(0.001, min(self.timeout_s, deadline - clock()))
                endpoint.chain_failed = await self._ask_chain(endpoint, timeout_s, stats)
                endpoint.chain_known = endpoint.chain_failed is None
            return endpoint.chain_failed

    async def _ask_chain(self, endpoint: Endpoint, timeout_s: float, stats: Stats) -> Failed | None:
        answer = await endpoint.post(self.session(), [("eth_chainId", [])], timeout_s, stats)
        if isinstance(answer, Failed):
            return answer
        if isinstance(answer[0], RpcError):
            kind = "rate" if answer[0].is_rate else "transport"
            return Failed(kind, f"eth_chainId: {answer[0].rpc_message}")
        try:
            found = quantity(answer[0], "chain id")
        except MalformedAnswerError as error:
            return Failed("malformed", error.message)
        if found == self.chain:
            return None
        raise WrongChainError(
            f"{endpoint.name} serves another chain",
            expected=f"chain id {self.chain}",
            found=f"chain id {found}",
            fix=f"correct the URL of chain {self.chain} (configuration or SPILLOVER_RPC_{self.chain})",
        )


def _judged(answer: list[Any] | Failed, accept: Check | None) -> list[Any] | Failed:
    """What is judged as a whole must be there as a whole."""
    if accept is None or isinstance(answer, Failed):
        return answer
    if missing := next((a for a in answer if isinstance(a, Failed)), None):
        return missing
    objection = accept(answer)
    return Failed("lie", objection) if objection else answer


def _pinned(params: Any) -> str:
    """The block hash an item is pinned to by EIP-1898, '' if by none."""
    if isinstance(params, Sequence) and params and isinstance(params[-1], Mapping):
        found = params[-1].get("blockHash")
        return found if isinstance(found, str) and "requireCanonical" in params[-1] else ""
    return ""


def _unpinned(params: Any, numbers: Mapping[str, int]) -> Any:
    pinned = _pinned(params)
    return [*params[:-1], hex(numbers[pinned])] if pinned in numbers else params

"""Several endpoints of one chain behind one door: budget, retry, failover, deadline, pinned blocks.

Failover may cost freshness, never trust: the block hash of a cut is agreed upon by all endpoints that answer (`pin`),
and all reads name that hash (EIP-1898). A node that does not know EIP-1898 is asked by number, and its hash for that
number is checked before and after in the same HTTP request.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from web3.providers.async_base import AsyncJSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from aggregator.chain.endpoint import Endpoint, Failed, Item
from aggregator.chain.header import Header, hash32, not_pinned, parse_header, quantity
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

_Answer = TypeVar("_Answer")
Check = Callable[[list[Any]], str]  # why these results of one endpoint are not acceptable, '' if they are
_READS = ("eth_get", "eth_call", "eth_block", "eth_chainId", "eth_estimate", "eth_fee", "eth_gas", "eth_syncing",
          "eth_createAccessList", "eth_maxPriority", "eth_blob", "net_", "web3_", "debug_", "trace_")  # fmt: skip


class Agreement(NamedTuple):
    """agreed of asked endpoints gave the pinned hash; silent: names of those that could not answer."""

    agreed: int
    asked: int
    silent: tuple[str, ...]


class RpcPool(SessionOwner, AsyncJSONBaseProvider):
    """A web3 provider over several URLs of one chain; every failure is a SourceError without any URL in it.

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
        self.agreement = Agreement(0, 0, ())
        self._numbers: dict[str, int] = {}
        self._slots = asyncio.Semaphore(in_flight)

    def __repr__(self) -> str:
        return f"RpcPool({self.source}, {', '.join(e.name for e in self.endpoints)})"

    disconnect = SessionOwner.close  # web3's name

    # -- requests

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
        out: list[Any] = [None] * len(items)
        todo = list(range(len(items)))
        stats = stats or self.stats
        clock = asyncio.get_running_loop().time
        deadline = clock() + self.deadline_s
        writes = any(not method.startswith(_READS) for method, _ in items)
        rounds, tried, backoff_s = 0, set[Endpoint](), self.backoff_s
        seen = dict[Endpoint, Failed]()
        while todo:
            endpoint, wait_s = self._choose(tried, clock())
            if endpoint is None:
                rounds += 1
                if rounds >= self.rounds or writes:
                    break
                tried.clear()
                wait_s, backoff_s = backoff_s, min(2 * backoff_s, 5.0)
            if clock() + wait_s >= deadline:
                break
            if wait_s:
                await asyncio.sleep(wait_s)
            if endpoint is None or endpoint.cool_until_s > clock():
                continue
            answer = await self._attempt(endpoint, [items[i] for i in todo], deadline, stats)
            if isinstance(answer, list) and accept:  # what is judged as a whole must be there as a whole
                missing = next((a for a in answer if isinstance(a, Failed)), None)
                if missing or (objection := accept(answer)):
                    answer = missing or Failed("lie", objection)
            if isinstance(answer, Failed):
                seen[endpoint] = self._blame(endpoint, answer, clock())
                if answer.kind != "rate":  # that one waits its pause out; it costs no round
                    tried.add(endpoint)
                if writes and answer.kind != "rate":
                    break  # it may have been done
                stats.retries += 1
                continue
            endpoint.failures = 0
            left = self._sort_out(endpoint, todo, items, answer, out, rounds, whole, seen)
            if left:
                left = todo if accept else left  # what is judged as a whole is asked as a whole
                if endpoint.cool_until_s <= clock():
                    tried.add(endpoint)
                stats.retries += 1
            todo = left
        if todo and all(isinstance(out[i], RpcError) for i in todo):
            todo = []
        if todo:
            raise self._gave_up(items[todo[0]][0], seen)
        return out

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

    def _sort_out(
        self,
        endpoint: Endpoint,
        part: list[int],
        items: Sequence[Item],
        answer: list[Any],
        out: list[Any],
        rounds: int,
        whole: bool,
        seen: dict[Endpoint, Failed],
    ) -> list[int]:
        """Store what is final; the items to ask again (once, or in all rounds where a node may yet get the block)."""
        left = []
        now_s = asyncio.get_running_loop().time()
        for i, result in zip(part, answer, strict=True):
            if isinstance(result, Failed):
                seen[endpoint] = self._blame(endpoint, result, now_s)
                left.append(i)
            elif isinstance(result, RpcError):
                result = RpcError(result.rpc_code, self.redact(result.rpc_message), result.data)
                if result.is_rate:
                    seen[endpoint] = self._blame(endpoint, Failed("rate", result.rpc_message), now_s)
                    left.append(i)
                    continue
                out[i] = result
                final = result.is_final(items[i][0]) and not (whole and result.is_size)
                if not final and rounds < (self.rounds if result.is_no_state else 1):
                    seen[endpoint] = Failed("refused", result.rpc_message)
                    left.append(i)
            else:
                out[i] = result
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

    # -- chain and blocks

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

    async def check_chain_id(self) -> None:
        """Every endpoint that answers serves our chain: WrongChainError otherwise; SourceError if none answers."""
        clock = asyncio.get_running_loop().time

        async def ask(endpoint: Endpoint) -> Failed | None:
            failed = await self._check_chain(endpoint, clock() + self.deadline_s, self.stats)
            return failed and self._blame(endpoint, failed, clock())

        await self._of_any("eth_chainId", ask)

    async def _of_any(
        self, method: str, ask: Callable[[Endpoint], Awaitable[_Answer | Failed]]
    ) -> dict[Endpoint, _Answer]:
        """What those that answer well say; while none does, all are asked again, as `batch` would. SourceError then.

        A pause that an endpoint asked for is kept, up to the deadline; other faults are tried again for `timeout_s`.
        """
        clock = asyncio.get_running_loop().time
        begun, rounds, backoff_s = clock(), 1, self.backoff_s
        while True:
            answers = await self._of_all(ask)
            if found := {e: a for e, a in answers.items() if not isinstance(a, Failed)}:
                return found
            failed = {e: a for e, a in answers.items() if isinstance(a, Failed)}
            pauses = [e.cool_until_s - clock() for e, a in failed.items() if a.kind == "rate"]
            again = rounds < self.rounds and clock() - begun < self.timeout_s
            if again and any(a.kind not in ("rate", "auth", "refused") for a in failed.values()):
                pauses.append(backoff_s)
                rounds, backoff_s = rounds + 1, min(2 * backoff_s, 5.0)
            wait_s = max(0.0, min(pauses, default=self.deadline_s))
            if clock() + wait_s >= begun + self.deadline_s:
                raise self._gave_up(method, failed)
            await asyncio.sleep(wait_s)

    async def _of_all(self, ask: Callable[[Endpoint], Awaitable[_Answer | Failed]]) -> dict[Endpoint, _Answer | Failed]:
        """What each endpoint says. Once one has said something good, the others have `patience_s` left."""
        tasks = {asyncio.ensure_future(ask(e)): e for e in self.endpoints}
        left, timeout_s = set(tasks), None
        try:
            while left:
                done, left = await asyncio.wait(left, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
                if not done:
                    break
                if any(not isinstance(task.result(), Failed) for task in done):
                    timeout_s = self.patience_s
        finally:
            for task in left:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)  # none is left behind, running or unread
        slow = Failed("transport", f"no answer {self.patience_s:g} s after another endpoint's")
        return {e: slow if task in left else task.result() for task, e in tasks.items()}

    async def pinned_header(self, at: BlockRef) -> Header:
        """Header of a pinned block by its number; an endpoint that gives another or none is passed over."""

        def accept(answers: list[Any]) -> str:
            try:
                parse_header(answers[0], at.number)
            except MalformedAnswerError as error:
                return f"{error.message}: {error.found}"
            return not_pinned(answers[0], at.number, at.hash)

        block = await self.batch([("eth_getBlockByNumber", [hex(at.number), False])], accept=accept)
        return parse_header(block[0], at.number)

    async def headers(self, block: str) -> dict[Endpoint, Header]:
        """Header of one block (0x-number or tag) from each endpoint that gives a well-formed one.

        SourceError if none does.
        """
        number = int(block, 16) if block.startswith("0x") else None
        clock = asyncio.get_running_loop().time

        async def ask(endpoint: Endpoint) -> Header | Failed:
            failed = Failed("", "")
            for pause_s in (0.0, 0.3):
                await asyncio.sleep(max(pause_s, min(5.0, endpoint.cool_until_s - clock())))
                items: list[Item] = [("eth_getBlockByNumber", [block, False])]
                answer = await self._attempt(endpoint, items, clock() + self.deadline_s, self.stats)
                if isinstance(answer, Failed):
                    failed = self._blame(endpoint, answer, clock())
                elif isinstance(answer[0], RpcError) and answer[0].is_rate:
                    failed = self._blame(endpoint, Failed("rate", answer[0].rpc_message), clock())
                elif isinstance(answer[0], RpcError):
                    failed = Failed("refused", self.redact(answer[0].rpc_message))
                elif answer[0] is None:
                    failed = Failed("refused", f"does not have block {block if number is None else number}")
                else:
                    try:
                        return parse_header(answer[0], number)
                    except MalformedAnswerError as error:
                        failed = Failed("malformed", error.message)
            return failed

        return await self._of_any("eth_getBlockByNumber", ask)

    async def pin(self, finality: str, at_least: int = 0) -> BlockRef:
        """The youngest block of that finality which most answering endpoints have, agreed by hash among all of them.

        finality: finalized | safe | latest | number of blocks behind the head. at_least: the last block that was read;
        who stands still below it does not hold up those that are above. BlockMismatchError if two endpoints give
        different hashes for it. `agreement` says how many agreed.
        """
        depth = int(finality) if finality.isdigit() else 0
        tags = await self.headers(finality if finality in ("finalized", "safe", "latest") else _latest(finality))
        heights = sorted((max(0, h.number - depth) for h in tags.values()), reverse=True)
        heights = [height for height in heights if height >= at_least] or heights
        number = heights[len(heights) // 2]
        return await self.pin_number(number, finality)

    async def pin_number(self, number: int, finality: str) -> BlockRef:
        """That block, agreed by hash among all endpoints that have it."""
        headers = await self.headers(hex(number))
        if len(set(headers.values())) > 1:
            raise BlockMismatchError(
                f"endpoints of {self.source} disagree about block {number}",
                expected="one hash and time",
                found="; ".join(f"{e.name}: {h.hash} at {h.time_s} s" for e, h in headers.items()),
                fix="wait if the chain is reorganising; otherwise remove the endpoint that is wrong",
            )
        self.agreement = Agreement(
            len(headers), len(self.endpoints), tuple(e.name for e in self.endpoints if e not in headers)
        )
        header = next(iter(headers.values()))
        return BlockRef(self.source, number, header.hash, header.time_s, finality)

    def at_block(self, at: BlockRef) -> dict[str, Any]:
        """The EIP-1898 block parameter of a pinned block."""
        self._numbers[hash32(at.hash, "block hash")] = at.number
        return {"blockHash": at.hash, "requireCanonical": True}

    # -- web3 provider

    async def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        (answer,) = await self.batch([(method, params)])
        return _response(0, answer)

    async def make_batch_request(self, requests: list[tuple[RPCEndpoint, Any]]) -> list[RPCResponse]:
        return [_response(i, a) for i, a in enumerate(await self.batch(list(requests)))]

    async def is_connected(self, show_traceback: bool = False) -> bool:
        try:
            await self.check_chain_id()
        except SourceError:
            if show_traceback:
                raise
            return False
        return True


def _response(i: int, answer: Any) -> RPCResponse:
    if isinstance(answer, RpcError):
        error: dict[str, Any] = {"code": answer.rpc_code, "message": answer.rpc_message}
        if answer.data:
            error["data"] = "0x" + answer.data.hex()
        return {"jsonrpc": "2.0", "id": i, "error": error}  # type: ignore[typeddict-item]
    return {"jsonrpc": "2.0", "id": i, "result": answer}


def _latest(finality: str) -> str:
    if not finality.isdigit():
        raise ConfigError(
            "unknown finality", expected="finalized, safe, latest or a number of blocks", found=repr(finality)
        )
    return "latest"


def _pinned(params: Any) -> str:
    """The block hash an item is pinned to by EIP-1898, '' if by none."""
    if isinstance(params, Sequence) and params and isinstance(params[-1], Mapping):
        found = params[-1].get("blockHash")
        return found if isinstance(found, str) and "requireCanonical" in params[-1] else ""
    return ""


def _unpinned(params: Any, numbers: Mapping[str, int]) -> Any:
    pinned = _pinned(params)
    return [*params[:-1], hex(numbers[pinned])] if pinned in numbers else params

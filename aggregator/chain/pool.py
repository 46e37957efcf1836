"""Several endpoints of one chain behind one door: what one must answer (`Failover`), and what all must agree on.

Failover may cost freshness, never trust: the block hash of a cut is agreed upon by all endpoints that answer (`pin`),
and all reads name that hash.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from web3.providers.async_base import AsyncJSONBaseProvider
from web3.types import RPCEndpoint, RPCResponse

from aggregator.chain.endpoint import Endpoint, Failed, Item
from aggregator.chain.failover import Failover
from aggregator.chain.header import Header, not_pinned, parse_header
from aggregator.chain.rpc_error import RpcError
from aggregator.chain.session import SessionOwner
from aggregator.core.block import BlockRef
from aggregator.core.errors import BlockMismatchError, ConfigError, MalformedAnswerError, SourceError, shown

_Answer = TypeVar("_Answer")


class Agreement(NamedTuple):
    """agreed of asked endpoints gave the pinned hash; silent: names of those that could not answer."""

    agreed: int
    asked: int
    silent: tuple[str, ...]


class RpcPool(Failover, AsyncJSONBaseProvider):
    """A web3 provider over the endpoints of one chain."""

    agreement = Agreement(0, 0, ())

    def __repr__(self) -> str:
        return f"RpcPool({self.source}, {', '.join(e.name for e in self.endpoints)})"

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

    # -- web3 provider

    disconnect = SessionOwner.close  # web3's name

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
            "unknown finality", expected="finalized, safe, latest or a number of blocks", found=shown(finality)
        )
    return "latest"

"""Many contract reads at one pinned block: Multicall3, split where it fails, JSON-RPC batches where there is none.

A failed sub-call is no verdict: a neighbour may have burnt its gas (EIP-150 leaves 1/64), so it is asked again alone.
An empty success is no value: it is asked again, and then the code is looked at.

Nodes have answered for a block with older state and no error (erigontech/erigon#18912). Where the chain keeps EIP-2935
history (Prague and later), each request carries a canary: the history contract's state must hold the hash of the
block before ours.
"""

from __future__ import annotations

import asyncio
from binascii import hexlify
from collections.abc import Sequence
from typing import Any

import numpy as np
import orjson

from aggregator.chain.abi import revert_reason
from aggregator.chain.aggregate3 import Pair, decode_aggregate3, encode_aggregate3, hex_bytes, total_bytes
from aggregator.chain.answers import Answers, Failure
from aggregator.chain.endpoint import Item
from aggregator.chain.pool import RpcPool
from aggregator.chain.rpc_error import RpcError
from aggregator.chain.stats import Stats
from aggregator.core.block import BlockRef
from aggregator.core.errors import BlockMismatchError, MalformedAnswerError, SourceError

HISTORY = "0x0000f90827f1c53a10cb7a02335b175320002935"
_STALE = "serves the state of another block (EIP-2935 history differs)"


class Multicall:
    """Reads of one chain at one block. address '' = the chain has no Multicall3.

    max_calls, max_bytes: of one multicall; halves itself after a multicall that failed as a whole. batch: items of one
    JSON-RPC batch. Answers do not depend on any of them.
    """

    def __init__(
        self,
        pool: RpcPool,
        at: BlockRef,
        address: str,
        *,
        stats: Stats,
        max_calls: int = 1000,
        max_bytes: int = 400_000,
        batch: int = 100,
    ) -> None:
        self._pool, self._at, self._address, self._stats = pool, at, address.lower(), stats
        self._max_calls, self._max_bytes, self._batch = max_calls, max_bytes, batch
        self._block = pool.at_block(at)
        self._deployed: bool | None = None
        self._canary: list[Pair] = []
        self._parent = b""
        self._first = asyncio.Lock()
        self._failed: SourceError | None = None  # how the last look for it ended

    async def deployed(self) -> bool:
        """Whether Multicall3 has code at the block; asked once. Sets the canary where the chain has EIP-2935."""
        before = self._failed
        async with self._first:
            if self._deployed is None:
                if self._failed and self._failed is not before:  # somebody looked while we waited: one deadline for all
                    raise self._failed
                try:
                    self._deployed = await self._look()
                except SourceError as error:
                    self._failed = error
                    raise
        return self._deployed

    async def _look(self) -> bool:
        ours, history = await self._has_code([self._address or HISTORY, HISTORY])
        if history and self._at.number > 0:
            self._parent = bytes.fromhex((await self._pool.pinned_header(self._at)).parent_hash[2:])
            self._canary = [(HISTORY, (self._at.number - 1).to_bytes(32, "big"))]
        return ours and bool(self._address)

    @property
    def checks_state(self) -> bool:
        """Whether every answer proves by the canary that it was computed on the state of the pinned block."""
        return bool(self._canary)

    async def read(self, pairs: Sequence[Pair]) -> Answers:
        """Answers aligned with pairs. SourceError if the endpoints fail us; a failing contract is a Failure."""
        if not pairs:
            return Answers.of([])
        self._stats.calls += len(pairs)
        if not await self.deployed():
            return Answers.of(await self._alone(list(pairs)))
        chunks = self._chunks(pairs)
        if len(chunks) == 1:  # no task of its own: it is on its way before the next piece is encoded
            parts = [await self._multicall(pairs)]
        else:
            parts = await asyncio.gather(*(self._multicall(chunk) for chunk in chunks))
        answers = Answers.join([part for part, _ in parts])
        again: list[int] = []
        first = 0
        for chunk, (_, indices) in zip(chunks, parts, strict=True):
            again += [first + i for i in indices]
            first += len(chunk)
        return await self._mend(list(pairs), answers, again) if again else answers

    async def _mend(self, pairs: Sequence[Pair], answers: Answers, again: list[int]) -> Answers:
        self._stats.alone += len(again)
        fixed = Answers.of(await self._alone([pairs[i] for i in again]))
        joined = Answers.join([answers, fixed])
        n = len(pairs)
        order = np.arange(n)
        order[again] = n + np.arange(len(again))
        failures = {i: fixed.failures[k] for k, i in enumerate(again) if k in fixed.failures}
        return Answers(joined.buffer, joined.start[order], joined.size[order], failures)

    def _chunks(self, pairs: Sequence[Pair]) -> list[Sequence[Pair]]:
        if len(pairs) <= self._max_calls and total_bytes(pairs) + 192 * len(pairs) <= self._max_bytes:
            return [pairs]
        chunks: list[Sequence[Pair]] = []
        pairs, begin, size = list(pairs), 0, 0
        for i, (_, data) in enumerate(pairs):
            cost = 192 + len(data)
            if i > begin and (i - begin >= self._max_calls or size + cost > self._max_bytes):
                chunks.append(pairs[begin:i])
                begin, size = i, 0
            size += cost
        chunks.append(pairs[begin:])
        return chunks

    async def _multicall(self, pairs: Sequence[Pair]) -> tuple[Answers, list[int]]:
        """Answers, and which of them to ask again alone (those hold no value)."""
        if len(pairs) == 1:
            return _unread(1), [0]
        self._stats.batches += 1
        data = encode_aggregate3(pairs, first=self._canary)  # first, so that no neighbour takes its gas
        quoted = orjson.Fragment(b'"0x' + hexlify(data) + b'"')  # as it is: nothing in it to escape
        params = [{"to": self._address, "data": quoted}, self._block]
        skip = len(self._canary)
        success, answers = np.zeros(0, dtype=np.bool_), Answers.of([])

        def accept(results: list[Any]) -> str:
            nonlocal success, answers
            if isinstance(results[0], RpcError):
                return ""
            try:
                success, answers = decode_aggregate3(hex_bytes(results[0]), skip + len(pairs))
            except MalformedAnswerError as error:
                return f"{error.message}: {error.found}"
            return "" if not skip or answers.blob(0) == self._parent else _STALE

        (result,) = await self._pool.batch([("eth_call", params)], accept=accept, stats=self._stats)
        if isinstance(result, RpcError):
            if not result.is_execution and not result.is_too_big:
                raise self._unanswered(result)
            half = len(pairs) // 2
            self._max_calls = max(10, min(self._max_calls, half))
            (a, again_a), (b, again_b) = await asyncio.gather(
                self._multicall(pairs[:half]), self._multicall(pairs[half:])
            )
            return Answers.join([a, b]), again_a + [half + i for i in again_b]
        again = np.flatnonzero(~success[skip:] | (answers.size[skip:] == 0)).tolist()
        return answers.part(skip, skip + len(pairs)), again

    async def _alone(self, pairs: Sequence[Pair]) -> list[bytes | Failure]:
        """Plain eth_calls in JSON-RPC batches."""
        chunks = [pairs[i : i + self._batch] for i in range(0, len(pairs), self._batch)]
        parts = await asyncio.gather(*(self._alone_chunk(chunk) for chunk in chunks))
        out = [blob for part in parts for blob in part]
        empty = sorted({pairs[i][0] for i, blob in enumerate(out) if blob == b""})
        if empty:
            code = dict(zip(empty, await self._has_code(empty), strict=True))
            for i, blob in enumerate(out):
                if blob == b"":
                    out[i] = Failure("empty answer") if code[pairs[i][0]] else Failure("", no_code=True)
        return out

    async def _alone_chunk(self, pairs: Sequence[Pair], control: bool = False) -> list[bytes | Failure]:
        """control: it is proved beside that the node has the state of the block, where there is no canary for it."""
        self._stats.batches += 1
        items: list[Item] = [
            ("eth_call", [{"to": to, "data": "0x" + data.hex()}, self._block]) for to, data in [*self._canary, *pairs]
        ]
        skip = len(self._canary)
        if control:
            items, skip = [("eth_getCode", [pairs[0][0], self._block]), *items], 1

        def accept(results: list[Any]) -> str:
            if self._canary and not isinstance(results[0], RpcError) and results[0] != "0x" + self._parent.hex():
                return _STALE
            if control and isinstance(results[0], RpcError):
                return results[0].rpc_message
            return _malformed_among(results)

        results = await self._pool.batch(items, accept=accept, whole=len(pairs) == 1, stats=self._stats)
        errors = [result for result in results if isinstance(result, RpcError)]
        if self._canary and isinstance(results[0], RpcError) and (len(pairs) == 1 or not results[0].is_too_big):
            raise self._unanswered(results[0])
        if not skip and any(not e.is_execution and not e.is_too_big and not e.is_node_trouble for e in errors):
            return await self._alone_chunk(pairs, control=True)  # a failed call, or in other words: no such block
        out: list[bytes | Failure] = []
        for i, result in enumerate(results[skip:]):
            if not isinstance(result, RpcError):
                out.append(hex_bytes(result))
            elif result.is_too_big and not result.is_execution and len(pairs) > 1:
                out += await self._alone_chunk(pairs[i : i + 1])  # a bomb among the batch, or the batch itself
            elif result.is_node_trouble:
                raise self._unanswered(result)
            else:
                out.append(Failure(revert_reason(result.data, "" if result.rpc_code == 3 else result.rpc_message)))
        return out

    async def _has_code(self, addresses: Sequence[str]) -> list[bool]:
        items = [("eth_getCode", [address, self._block]) for address in addresses]
        out = []
        for result in await self._pool.batch(items, accept=_malformed_among, stats=self._stats):
            if isinstance(result, RpcError):
                raise self._unanswered(result)
            out.append(len(hex_bytes(result)) > 0)
        return out

    def _unanswered(self, error: RpcError) -> SourceError:
        kind = BlockMismatchError if error.is_no_state else SourceError
        return kind(
            f"no endpoint of {self._at.source} answers at block {self._at.number}",
            expected=f"state of block {self._at.hash}",
            found=error.rpc_message,
            fix="the block may have been reorganised away (run again), or the node keeps no state that old",
        )


def _malformed_among(results: list[Any]) -> str:
    try:
        for result in results:
            if not isinstance(result, RpcError):
                hex_bytes(result)
    except MalformedAnswerError as error:
        return f"{error.message}: {error.found}"
    return ""


def _unread(count: int) -> Answers:
    zeros = np.zeros(count, dtype=np.int64)
    return Answers(b"", zeros, zeros, {})

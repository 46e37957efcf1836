"""Reorgs are found by hash: the newest stored block that is still canonical is where history was left.

`removed: true` is never relied on; some nodes (anvil among them) never send it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from aggregator.chain.pool import RpcPool
from aggregator.chain.rpc_error import RpcError
from aggregator.core.block import BlockRef
from aggregator.core.errors import BlockMismatchError, SourceError

_STEP = 32


async def find_fork(pool: RpcPool, known: Sequence[BlockRef]) -> BlockRef | None:
    """The newest of our stored blocks that the chain still has; equal to the newest stored if nothing was undone.

    None if none of them is canonical (or none is stored): everything must be read again. One endpoint's word undoes
    nothing: a block is gone if all that have its height agree on another hash. SourceError if none answers, or if the
    heads of all that answer are below a stored block: that is how a node that lags looks; BlockMismatchError if they
    disagree.
    """
    ours = sorted((b for b in known if b.source == pool.source), key=lambda b: b.number, reverse=True)
    if not ours:
        return None
    head = max(header.number for header in (await pool.headers("latest")).values())
    if head < ours[0].number:
        raise SourceError(
            f"the endpoints of {pool.source} are behind what was read of them",
            expected=f"block {ours[0].number} or above",
            found=f"head at {head}",
            fix="run again when they have caught up; a chain that began anew needs a database of its own",
        )
    oldest_gone: BlockRef | None = None
    for i in range(0, len(ours), _STEP):
        part = ours[i : i + _STEP]
        asked = [("eth_getBlockByNumber", [hex(ref.number), False]) for ref in part]
        blocks = await pool.batch(asked, accept=_all_there)
        for ref, block in zip(part, blocks, strict=True):
            if isinstance(block, RpcError):
                raise SourceError(
                    f"no endpoint of {pool.source} says whether block {ref.number} is canonical",
                    expected=ref.hash,
                    found=block.rpc_message,
                    fix="check the endpoints with `spillover doctor`",
                )
            if block.get("hash") == ref.hash:
                await _agree(pool, ref, canonical=True)
                if oldest_gone:
                    await _agree(pool, oldest_gone, canonical=False)
                return ref
            oldest_gone = ref
    if oldest_gone:
        await _agree(pool, oldest_gone, canonical=False)
    return None


def _all_there(blocks: list[Any]) -> str:
    """A node that lags lacks what others have: its silence is no reorg."""
    return "" if all(isinstance(block, RpcError | dict) for block in blocks) else "does not have a block below the head"


async def _agree(pool: RpcPool, ref: BlockRef, canonical: bool) -> None:
    found = (await pool.pin_number(ref.number, ref.finality)).hash
    if (found == ref.hash) != canonical:
        raise BlockMismatchError(
            f"endpoints of {pool.source} do not agree whether block {ref.number} is canonical",
            expected=f"{ref.hash} {'there' if canonical else 'gone'}",
            found=found,
            fix="run again; if it lasts, find the endpoint that is wrong with `spillover doctor`",
        )

"""Reorgs are found by hash: the newest stored block that is still canonical is where history was left.

`removed: true` is never relied on; some nodes (anvil among them) never send it.
"""

from __future__ import annotations

from collections.abc import Sequence

from aggregator.chain.pool import RpcPool
from aggregator.chain.rpc_error import RpcError
from aggregator.core.block import BlockRef
from aggregator.core.errors import BlockMismatchError, SourceError

_STEP = 32


async def find_fork(pool: RpcPool, known: Sequence[BlockRef]) -> BlockRef | None:
    """The newest of our stored blocks that the chain still has; equal to the newest stored if nothing was undone.

    None if none of them is canonical (or none is stored): everything must be read again. A height above the node's head
    counts as gone only if some endpoint answers for it; SourceError if none answers at all. BlockMismatchError if the
    endpoints disagree about the block where we would go on.
    """
    ours = sorted((b for b in known if b.source == pool.source), key=lambda b: b.number, reverse=True)
    for i in range(0, len(ours), _STEP):
        part = ours[i : i + _STEP]
        blocks = await pool.batch([("eth_getBlockByNumber", [hex(b.number), False]) for b in part])
        for ref, block in zip(part, blocks, strict=True):
            if isinstance(block, RpcError):
                raise SourceError(
                    f"no endpoint of {pool.source} says whether block {ref.number} is canonical",
                    expected=ref.hash,
                    found=block.rpc_message,
                )
            if isinstance(block, dict) and block.get("hash") == ref.hash:
                agreed = await pool.pin_number(ref.number, ref.finality)
                if agreed.hash != ref.hash:
                    raise BlockMismatchError(
                        f"{pool.source} changed block {ref.number} while we looked",
                        expected=ref.hash,
                        found=agreed.hash,
                        fix="run again",
                    )
                return ref
    return None

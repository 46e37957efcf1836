"""Forks found by stored hashes, on a chain that really reorganises."""

import pytest

from aggregator.chain.pool import RpcPool
from aggregator.chain.reorg import find_fork
from aggregator.core.errors import BlockMismatchError, SourceError
from tests.chain.node import Node, closed_port
from tests.devnet.anvil import Chain


async def stored(pool: RpcPool, *numbers: int):
    return [await pool.pin_number(n, "latest") for n in numbers]


async def test_the_newest_block_that_survived_is_the_fork(chain: Chain):
    chain.mine(60)
    async with RpcPool(1, [chain.url]) as pool:
        known = await stored(pool, 3, 10, 45, 50, 55, 58)
        assert await find_fork(pool, known) == known[-1]
        assert await find_fork(pool, []) is None
        head = (await pool.pin("latest")).number
        chain.reorg(head - 50)  # replaces 51 and above
        assert await find_fork(pool, known) == known[3]
        assert await find_fork(pool, known[::-1]) == known[3]


async def test_a_chain_that_stands_below_what_is_stored_undoes_nothing_before_it_has_grown_again(chain: Chain):
    """A node that lags looks the same: after a pin at 35 another node of a balancer may stand at 25."""
    chain.mine(40)
    async with RpcPool(1, [chain.url]) as pool:
        known = await stored(pool, 5, 20, 35)
        chain.rpc("anvil_rollback", (await pool.pin("latest")).number - 25)
        with pytest.raises(SourceError, match="behind what was read"):
            await find_fork(pool, known)
        chain.warp(3600)  # other blocks than those that were there
        chain.mine(15)
        assert await find_fork(pool, known) == known[1]


async def test_more_stored_cuts_than_one_request_asks_for(chain: Chain):
    chain.mine(80)
    async with RpcPool(1, [chain.url]) as pool:
        known = await stored(pool, *range(1, 79))
        head = (await pool.pin("latest")).number
        chain.reorg(head - 9)
        assert (await find_fork(pool, known)).number == 9


async def test_another_chain_entirely_shares_nothing():
    async with Node() as old, Node(fork="other") as new:
        async with RpcPool(1, [old.url]) as pool:
            known = await stored(pool, 5, 50)
        async with RpcPool(1, [new.url]) as pool:
            assert await find_fork(pool, known) is None


async def test_a_node_that_cannot_say_is_not_taken_for_a_reorg():
    async with Node() as node, RpcPool(1, [node.url]) as pool:
        known = await stored(pool, 5, 50)
    async with RpcPool(1, [closed_port()], rounds=1) as pool:
        with pytest.raises(SourceError):
            await find_fork(pool, known)


@pytest.mark.parametrize("order", [1, -1])
async def test_endpoints_that_disagree_about_the_fork_stop_the_run(order):
    async with Node() as a, Node(fork="evil", forked_at=40) as b:
        async with RpcPool(1, [a.url]) as pool:
            known = await stored(pool, 30, 50)
        async with RpcPool(1, [a.url, b.url][::order]) as pool:
            with pytest.raises(BlockMismatchError):
                await find_fork(pool, known)


async def test_an_endpoint_behind_its_own_earlier_head_undoes_nothing():
    async with Node() as behind, Node() as ahead:
        async with RpcPool(1, [ahead.url]) as pool:
            known = await stored(pool, 30, 60, 90)
        behind.head = 70
        async with RpcPool(1, [behind.url, ahead.url]) as pool:
            assert await find_fork(pool, known) == known[-1]


async def test_a_balancer_that_answers_from_nodes_of_several_heights_undoes_nothing():
    async with Node() as node:
        async with RpcPool(1, [node.url]) as pool:
            known = await stored(pool, 30, 60, 90)
        honest = node.eth_getBlockByNumber
        node.eth_getBlockByNumber = lambda block, full: None if block == hex(90) else honest(block, full)
        async with RpcPool(1, [node.url], rounds=2, deadline_s=3) as pool:
            with pytest.raises(SourceError, match="does not have a block below the head"):
                await find_fork(pool, known)

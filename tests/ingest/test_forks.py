"""A chain that cannot say whether its stored blocks stand costs its own rows, and nothing that is stored."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from aggregator.core.block import BlockRef, Cut
from aggregator.core.errors import BlockMismatchError, DatabaseError, SourceError
from aggregator.core.rows import Market
from aggregator.ingest.collect import collect
from aggregator.sdk.adapter import Adapter, Target, View, Where
from aggregator.sdk.testing import FakeView
from aggregator.snapshot import build
from aggregator.store import Store


class Chain:
    """A source whose head is `number`; endpoints that disagree about its past if `split`."""

    stats = FakeView().stats

    def __init__(self, chain: int) -> None:
        self.id, self.number, self.split = f"eip155:{chain}", 100, False

    def block(self, number: int) -> BlockRef:
        return BlockRef(self.id, number, f"0x{number:064x}", 1_750_000_000 + number, "latest")

    async def pin(self, at_least: int = 0) -> BlockRef:
        return self.block(self.number)

    async def find_fork(self, known: Sequence[BlockRef]) -> BlockRef | None:
        if self.split:
            raise BlockMismatchError("endpoints disagree about block 100", expected="one hash", found="two")
        return next((b for b in known if b.hash == self.block(b.number).hash and b.number <= self.number), None)

    def view(self, at: BlockRef) -> FakeView:
        return FakeView(at)

    def seal(self, at: BlockRef) -> BlockRef:
        return at


async def test_a_chain_whose_endpoints_disagree_costs_its_own_rows(new_store: Callable[[], Store]) -> None:
    store, one, two = new_store(), Chain(1), Chain(10)
    await collect(store, [one, two], [], {})
    one.number = two.number = 110
    one.split = True
    result = await collect(store, [one, two], [], {})
    assert [b.source for b in result.cut.blocks] == ["eip155:10"]
    assert result.failed == {"eip155:1": "endpoints disagree about block 100 (two)"}
    assert not result.rewound
    assert [b.number for b in store.blocks("eip155:1")] == [100]
    one.split = False
    assert len((await collect(store, [one, two], [], {})).cut.blocks) == 2
    assert [b.number for b in store.blocks("eip155:1")] == [110, 100]


async def test_a_chain_that_is_down_leaves_a_gap_of_the_accounts_that_are_known(
    new_store: Callable[[], Store],
) -> None:
    store, chains = new_store(), [Chain(1), Chain(10)]
    deployments = [Where("markets", c.id, "a", {}, 0, {}) for c in chains]
    await collect(store, chains, deployments, {"markets": Markets(holders=3)})
    for c in chains:
        c.number = 110
    chains[1].split = True
    result = await collect(store, chains, deployments, {"markets": Markets(holders=3)})
    snap = build(store.read(result.cut), result.cut, store.assets(result.cut))
    assert [(g.subject, g.reason, g.accounts) for g in snap.gaps] == [("eip155:10/markets/a", "source_failed", 3)]


async def test_what_was_read_at_a_block_is_not_lost_by_a_fault_at_the_same_block(
    new_store: Callable[[], Store],
) -> None:
    store, chain = new_store(), Chain(1)
    deployments = [Where("markets", chain.id, name, {}, 0, {}) for name in ("a", "b")]

    def levels(cut: Cut) -> tuple[str, dict[str, str]]:
        snap = build(store.read(cut), cut, store.assets(cut))
        return snap.digest, {c.deployment: c.level for c in store.coverage(cut)}

    good = await collect(store, [chain], deployments, {"markets": Markets(holders=3)})
    before = levels(good.cut)
    faulty = Markets(holders=3)
    faulty.broken = deployments[0].id
    again = await collect(store, [chain], deployments, {"markets": faulty})
    assert (list(again.failed), levels(again.cut)) == ([deployments[0].id], before)
    assert len(store.cuts()) == 1
    chain.number = 110
    later = await collect(store, [chain], deployments, {"markets": faulty})
    assert levels(later.cut)[1] == {deployments[0].id: "failed", deployments[1].id: "full"}
    mended = await collect(store, [chain], deployments, {"markets": Markets(holders=3)})
    assert set(levels(mended.cut)[1].values()) == {"full"}


async def test_a_database_that_fails_is_no_adapters_failure(new_store: Callable[[], Store]) -> None:
    store, chain = new_store(), Chain(1)
    where = Where("markets", chain.id, "a", {}, 0, {})
    await collect(store, [chain], [where], {"markets": Markets()})
    with store._writer() as connection:
        connection.exec_driver_sql("ALTER TABLE cursor RENAME TO away")
    with pytest.raises(DatabaseError):
        await collect(store, [chain], [where], {"markets": Markets()})
    with store._writer() as connection:
        connection.exec_driver_sql("ALTER TABLE away RENAME TO cursor")
    assert [c.level for c in store.coverage(store.cuts()[0].cut)] == ["full"]


class Markets(Adapter):
    """Every deployment is one market with so many holders."""

    def __init__(self, holders: int = 0) -> None:
        self.holders, self.broken = holders, ""

    async def discover(self, view: View, where: Where, since: int) -> AsyncIterator[Target]:
        for i in range(self.holders):
            yield Target(where.id, f"0x{i:040x}")

    async def terms(self, view: View, where: Where) -> AsyncIterator[Market]:
        if where.id == self.broken:
            raise SourceError("the node has trouble")
        yield Market(where.id, "lending", "", where.name)


async def test_a_node_behind_a_checkpoint_costs_that_deployment_alone_and_not_its_work(
    new_store: Callable[[], Store],
) -> None:
    store, chain = new_store(), Chain(1)
    deployments = [Where("markets", chain.id, name, {}, 0, {}) for name in ("long", "other")]
    long, other = (where.id for where in deployments)
    store.save_discovery(long, chain.block(100), 40, [Target(long, "0x" + "5a" * 20)])
    kept = store.discovery(long)
    chain.number = 90
    result = await collect(store, [chain], deployments, {"markets": Markets()})
    assert result.failed == {long: "the endpoint is at block 90, behind the discovery seen from 100"}
    assert {c.deployment: c.level for c in store.coverage(result.cut)} == {long: "failed", other: "full"}
    assert store.discovery(long) == kept
    chain.number = 110
    assert not (await collect(store, [chain], deployments, {"markets": Markets()})).failed
    assert store.discovery(long) is None
    assert store.known_targets(long) == [(long, "0x" + "5a" * 20, "")]


async def test_nothing_is_written_where_no_deployment_can_be_read(new_store: Callable[[], Store]) -> None:
    store, empty, broken = new_store(), Chain(1), Chain(10)
    await collect(store, [empty, broken], [], {})
    broken.split = True
    empty.number = broken.number = 110
    with pytest.raises(SourceError, match="no source could be read") as caught:
        await collect(store, [empty, broken], [Where("markets", broken.id, "a", {}, 0, {})], {"markets": Markets()})
    assert caught.value.found == "eip155:10: endpoints disagree about block 100 (two)"
    assert len(store.cuts()) == 1

"""A reorg leaves the store as if the dropped blocks had never been."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from aggregator.core.schema import POSITIONS
from aggregator.store import Store
from tests.store.ledger import Chain, collect, content
from tests.store.test_roundtrip import snapshot

A, B = "eip155:1", "eip155:10"
Schedule = list[tuple[str, dict[str, int], set[str], dict[str, Chain]]]


def empty(store: Store) -> None:
    from aggregator.store.facts import METADATA

    with store._writer() as connection:
        for table in METADATA.sorted_tables:
            connection.execute(table.delete())


def one_chain(seed: int, store: Store, rebuilt: Store, *, rewind: Callable[[Store, str, int], object]) -> bool:
    """Run a random schedule on `store`; after each reorg and at the end replay what survived on `rebuilt`: the same?"""
    rng = random.Random(seed)
    chain, cuts = Chain(A), list[tuple[int, set[str]]]()
    steps = rng.randrange(3, 9)
    for step in range(steps):
        reorg = bool(cuts) and rng.random() < 0.45
        if reorg:
            # the fork is a stored cut or any block below the head; what survives are the cuts at or below it
            fork = rng.choice([*(number for number, _ in cuts), rng.randrange(chain.head + 1)])
            chain.reorg(fork)
            rewind(store, A, fork)
            cuts = [cut for cut in cuts if cut[0] <= fork]
        chain.mine(rng, rng.randrange(1, 6))
        broken = {A} if rng.random() < 0.2 else set()
        collect(store, {A: chain}, {A: chain.head}, broken)
        cuts.append((chain.head, broken))
        if not reorg and step < steps - 1:
            continue
        empty(rebuilt)
        for number, failed in cuts:
            collect(rebuilt, {A: chain}, {A: number}, failed)
        if content(store) != content(rebuilt):
            return False
        cut = store.latest_cut()
        assert cut is not None
        assert snapshot(store, cut.cut).digest == snapshot(rebuilt, cut.cut).digest
    return True


def drop_only(store: Store, source: str, fork: int) -> None:
    """The mutant: forgets to open again what the dropped blocks had closed."""
    with store._reader() as raw:
        closed = {
            kind: raw.fetch(
                f"SELECT market, holder, ref, valid_from, valid_to FROM fact_{kind} WHERE valid_to > ?", (fork,)
            )
            for kind in POSITIONS
        }
    store.rewind(source, fork)
    with store._writer() as connection:
        from aggregator.store.database import Raw

        for kind, rows in closed.items():
            for market, holder, ref, start, stop in rows:
                Raw(connection).execute(
                    f"UPDATE fact_{kind} SET valid_to = ?"
                    " WHERE market = ? AND holder = ? AND ref = ? AND valid_from = ?",
                    (stop, market, holder, ref, start),
                )


@pytest.mark.parametrize("seeds", [range(i, i + 10) for i in (0, 10)])
def test_rewind_equals_a_rebuild(new_store: Callable[[], Store], seeds: range) -> None:
    store, rebuilt = new_store(), new_store()
    for seed in seeds:
        empty(store)
        assert one_chain(seed, store, rebuilt, rewind=Store.rewind), seed


def test_the_check_catches_a_rewind_that_only_drops(new_store: Callable[[], Store]) -> None:
    store, rebuilt = new_store(), new_store()
    caught = 0
    for seed in range(10):
        empty(store)
        caught += not one_chain(seed, store, rebuilt, rewind=drop_only)
        if caught == 3:
            break
    assert caught >= 3


@pytest.mark.parametrize("seed", range(5))
def test_a_reorg_of_one_chain_leaves_the_other_alone(new_store: Callable[[], Store], seed: int) -> None:
    """Positions, targets, cursors and assets; a run that straddled the reorg lives on for the other chain alone."""
    rng = random.Random(seed)
    chains = {A: Chain(A), B: Chain(B)}
    store, rebuilt = new_store(), new_store()
    history: list[dict[str, int]] = []
    for _ in range(7):
        if history and rng.random() < 0.5:
            fork = rng.choice([at[A] for at in history if A in at] or [0])
            chains[A].reorg(fork)
            store.rewind(A, fork)
            history = [{s: n for s, n in at.items() if s == B or n <= fork} for at in history]
        for chain in chains.values():
            chain.mine(rng, rng.randrange(1, 5))
        at = {source: chain.head for source, chain in chains.items()}
        collect(store, chains, at, set())
        history.append(at)
    for at in history:
        collect(rebuilt, chains, at, set())
    assert content(store, of_cuts=False) == content(rebuilt, of_cuts=False)


@pytest.mark.parametrize("seed", range(6))
def test_two_chains_reorganised_at_once_are_both_undone(new_store: Callable[[], Store], seed: int) -> None:
    """The rewind of one chain drops the common cut, and must leave what shows that the other one changed as well."""
    rng = random.Random(seed)
    chains = {A: Chain(A), B: Chain(B)}
    store, rebuilt = new_store(), new_store()
    history: list[dict[str, int]] = []
    for _ in range(7):
        for source, chain in chains.items():
            if rng.random() < 0.5:
                fork = rng.randrange(chain.head + 1)
                chain.reorg(fork)
                history = [{s: n for s, n in at.items() if s != source or n <= fork} for at in history]
            chain.mine(rng, rng.randrange(3, 6))
        for source, chain in chains.items():  # as ingest does before a run
            known = store.blocks(source)
            assert known == sorted(known, key=lambda b: -b.number)
            fork = next((b.number for b in known if b.number <= chain.head and chain.at(b.number).hash == b.hash), -1)
            if known and fork != known[0].number:
                store.rewind(source, fork)
        at = {source: chain.head for source, chain in chains.items()}
        collect(store, chains, at, set())
        history.append(at)
    for at in filter(None, history):
        collect(rebuilt, chains, at, set())
    assert content(store, of_cuts=False) == content(rebuilt, of_cuts=False)


def test_an_old_cut_reads_the_same_after_later_runs(store: Store) -> None:
    """Changed positions and token names, a failed run, a run of another chain, an undone one: none shows in it."""
    rng = random.Random(11)
    chains = {A: Chain(A), B: Chain(B)}
    digests: dict[str, str] = {}
    for turn in range(8):
        for chain in chains.values():
            chain.mine(rng, 3)
        at = {source: chains[source].head for source in ((A, B) if turn % 3 else (A,))}
        collect(store, chains, at, {B} if turn == 4 else set())
        if turn == 5:
            chains[A].reorg(chains[A].head - 2)
            store.rewind(A, chains[A].head)
        for stored in store.cuts():
            digest = snapshot(store, stored.cut).digest
            assert digests.setdefault(stored.cut.digest, digest) == digest
    assert len(digests) == 7


def test_rewind_drops_what_was_concluded_from_the_lost_cut(store: Store) -> None:
    chain = Chain(A)
    for _ in range(2):
        chain.mine(random.Random(1), 3)
        collect(store, {A: chain}, {A: chain.head}, set())
    lost, kept = (stored.cut.digest for stored in store.cuts())
    for job, digest in (("lost", lost), ("kept", kept)):
        store.save_stress(job, digest, "s", "1", b"{}")
    assert store.rewind(A, 3) == [2]
    assert [stored.cut.digest for stored in store.cuts()] == [kept]
    assert (store.stress("lost"), store.stress("kept")) == (None, b"{}")
    assert store.rewind(A, 3) == []
    assert store.rewind("eip155:5", 0) == []

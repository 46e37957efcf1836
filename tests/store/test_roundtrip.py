"""What is written is what is read, exactly, on both databases."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from aggregator.core.block import BlockRef, Cut
from aggregator.core.errors import ConfigError, DomainError, StoreError
from aggregator.core.fixed import I256_MAX, I256_MIN, U256_MAX
from aggregator.core.rows import (
    AccountTerm,
    Asset,
    Backstop,
    Claim,
    Depth,
    Exposure,
    Gap,
    Index,
    Market,
    OptionLeg,
    PerpPosition,
    Price,
    Row,
    Term,
    Total,
)  # fmt: skip
from aggregator.core.schema import KIND_OF, POSITIONS
from aggregator.core.table import raw_tables
from aggregator.snapshot import Snapshot, build
from aggregator.store import Store
from aggregator.store.database import Raw

D, M = "eip155:1/aave_v3/core", "eip155:1/aave_v3/core"
A, B = "eip155:1/erc20:0x" + "a" * 40, "eip155:1/erc20:0x" + "b" * 40
H = "0x" + "1" * 40
EDGES = (0, 1, 2**53 + 1, 2**255, U256_MAX)
SIGNED = (I256_MIN, -(2**53) - 1, -1, 0, 1, I256_MAX)

MARKET_ROWS: list[Row] = [
    Market(M, "lending", "aave_v3@3.6", "Core 🏦", b"\x01"),
    *(Term(M, A, "", f"k{i}", raw, 4) for i, raw in enumerate(SIGNED)),
    Index(M, A, "debt", U256_MAX, 10**27, "up"),
    *(Price("", A, "iso4217:USD", raw, 8, "feed", 0, 0, bytes((i,))) for i, raw in enumerate(SIGNED)),
    Claim(A, B, "vault", U256_MAX, 1, M, -887272, 887272),
    Depth(M, "tick", "", -887272, I256_MIN),
    Backstop(M, "fund", A, 0, U256_MAX),
    Total(M, A, "debt", U256_MAX),
    Gap(A, "reverted", "symbol() \N{SNOWMAN}", 3, "12.50"),
]
POSITION_ROWS: list[Row] = [
    *(Exposure(M, H, str(i), A, "debt", shares, b"\0\xff" * i) for i, shares in enumerate(EDGES)),
    *(PerpPosition(M, H, str(i), A, raw, -raw if raw != I256_MIN else 0, 18) for i, raw in enumerate(SIGNED)),
    OptionLeg(M, H, "7", A, B, "C", "european", B, 2**62, I256_MAX, I256_MIN, 18),
    AccountTerm(M, H, "", "emode", I256_MIN),
]
TARGETS = [(M, H, "")]
ASSETS = [Asset(A, "A", 18, "Token A", b"\x01\x02"), Asset(B, "₿", 0)]


def cut_at(number: int, source: str = "eip155:1", branch: str = "a") -> Cut:
    return Cut.of([BlockRef(source, number, f"0x{branch}{number:04x}", 1_700_000_000 + number, "finalized")])


def write(store: Store, cut: Cut) -> None:
    with store.write_run(cut, version="1", config_digest="c", started_s=5) as run:
        run.cut_rows(D, [*MARKET_ROWS, *ASSETS])
        run.positions(D, TARGETS, POSITION_ROWS)
        run.targets(D, TARGETS)
        run.coverage(D, "full", 1, 1)
        run.cursor(D, cut.blocks[0].number)


def snapshot(store: Store, cut: Cut) -> Snapshot:
    levels = {c.deployment: c.level for c in store.coverage(cut)}
    return build(store.read(cut), cut, store.assets(cut), levels)


def test_every_kind_comes_back_exactly(store: Store) -> None:
    cut = cut_at(10)
    write(store, cut)
    snap = snapshot(store, cut)
    wanted: dict[str, list[Row]] = {kind: [] for kind in snap.tables}
    for row in [*MARKET_ROWS, *POSITION_ROWS]:
        wanted[KIND_OF[type(row)]].append(row)  # type: ignore[index]
    for kind, rows in wanted.items():
        found = [r for r in snap.rows(kind) if kind != "gap" or r.reason == "reverted"]
        assert sorted(found) == sorted(rows), kind  # type: ignore[type-var]
    assert list(snap.assets.values()) == sorted(ASSETS)
    assert all(store.latest_cut() == store.cut(at) for at in (1, cut.digest, cut.digest[:8]))
    assert store.latest_cut().cut == cut  # type: ignore[union-attr]
    assert store.cursor(D) == 10
    assert store.known_targets(D) == TARGETS
    assert store.known_targets(D, 9) == []


def test_snapshot_knows_neither_database_nor_order(store: Store) -> None:
    cut = cut_at(10)
    write(store, cut)
    rows: list[tuple[str, Row]] = [(D, row) for row in [*MARKET_ROWS, *POSITION_ROWS]]
    random.Random(1).shuffle(rows)
    assert build(raw_tables(rows), cut, ASSETS[::-1]).digest == snapshot(store, cut).digest


def test_the_same_cut_again_changes_nothing(store: Store) -> None:
    cut = cut_at(10)
    write(store, cut)
    before = snapshot(store, cut).digest
    write(store, cut)
    assert snapshot(store, cut).digest == before
    assert len(store.cuts()) == 1


def test_an_update_costs_what_changed(store: Store) -> None:
    write(store, cut_at(10))
    changed = Exposure(M, H, "0", A, "debt", 99)
    with store.write_run(cut_at(20)) as run:
        run.positions(D, TARGETS, [changed, *POSITION_ROWS[1:-1]])
        run.cursor(D, 20)
    assert snapshot(store, cut_at(10)).rows("exposure", ref="0") == [POSITION_ROWS[0]]
    later = snapshot(store, cut_at(20))
    assert later.rows("exposure", ref="0") == [changed]
    assert later.rows("account_term") == []
    with store._reader() as raw:
        life = sorted(raw.fetch("SELECT valid_from, valid_to FROM fact_exposure"), key=repr)
    assert life == [(10, 20), *[(10, None)] * (len(EDGES) - 1), (20, None)]


def test_targets_own_their_rows_and_no_others(store: Store) -> None:
    def pair(holder: str, ref: str, shares: int) -> Exposure:
        return Exposure(M, holder, ref, A, "supply", shares)

    with store.write_run(cut_at(1)) as run:
        run.positions(D, [(M, "x", ""), (M, "", "7")], [pair("x", "1", 1), pair("x", "2", 2), pair("y", "7", 3)])
    with store.write_run(cut_at(2)) as run:  # position 7 changes hands, x closes 1
        run.positions(D, [(M, "", "7")], [pair("z", "7", 3)])
        run.positions(D, [(M, "x", "1")], [])
        run.positions(D, [(M, "", "")], [])
    found = [(r.holder, r.ref) for r in snapshot(store, cut_at(2)).rows("exposure")]
    assert found == [("x", "2"), ("z", "7")]


@pytest.mark.parametrize(
    ("targets", "rows", "message"),
    [
        ([(M, "other", "")], [Exposure(M, H, "", A, "debt", 1)], "belongs to no target"),
        ([(M, "", "")], [Exposure(M, H, "", A, "debt", 1)], "belongs to no target"),
        (TARGETS, [Exposure(M, H, "", A, "debt", 1), Exposure(M, H, "", A, "debt", 2)], "two exposure rows"),
        (TARGETS, [Exposure(M, H, "", A, "debt", -1)], "exposure.shares does not fit"),
        (TARGETS, [Exposure(M, H, "", A, "debt", U256_MAX + 1)], "exposure.shares does not fit"),
        (TARGETS, [Exposure(M, H, "", A, "debt", 10**5000)], "exposure.shares does not fit"),
        (TARGETS, [Exposure(M, H, "", A, "debt", 1.0)], "exposure.shares does not fit"),  # type: ignore[arg-type]
        (TARGETS, [Exposure(M, H, "", None, "debt", 1)], "exposure.asset does not fit"),  # type: ignore[arg-type]
        (TARGETS, [AccountTerm(M, H, "", "k", I256_MAX + 1)], "account_term.raw does not fit"),
        (TARGETS, [PerpPosition(M, H, "", A, 1, 1, 2**63)], "perp.exp does not fit"),
        (TARGETS, [Exposure(M, H, "", A, "debt", 1, "text")], "exposure.src does not fit"),  # type: ignore[arg-type]
        (TARGETS, [Market(M, "", "", "")], "not a position"),
        (TARGETS, [(M, H)], "not a row"),
    ],
)
def test_bad_rows_are_named_and_cost_only_themselves(
    store: Store, targets: list[tuple[str, str, str]], rows: list[Row], message: str
) -> None:
    with store.write_run(cut_at(1)) as run:
        run.positions(D, TARGETS, POSITION_ROWS)
        with pytest.raises(DomainError, match=message):
            run.positions(D, targets, rows)
    assert len(snapshot(store, cut_at(1)).rows("exposure")) == len(EDGES)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Exposure(M, H, "", A, "debt", 1), "a position among the rows"),
        (Asset(A, "A", 256), "not an asset"),
        (Asset(A, None, 18), "not an asset"),  # type: ignore[arg-type]
        (Index(M, A, "debt", -1, 1, "up"), "index.num does not fit"),
    ],
)
def test_bad_market_rows_are_named(store: Store, row: Row, message: str) -> None:
    with store.write_run(cut_at(1)) as run, pytest.raises(DomainError, match=message):
        run.cut_rows(D, [row])


def test_an_update_searches_and_never_scans(tmp_path: Path) -> None:
    """Every statement that touches open positions in a second run goes by an index, whatever the planner guesses."""
    statements: list[str] = []
    with Store.open(f"sqlite:///{tmp_path}/x.db") as store:
        store.migrate()
        write(store, cut_at(1))
        with store.write_run(cut_at(2)) as run:
            run._raw.driver.set_trace_callback(statements.append)
            run.positions(D, [*TARGETS, (M, "", "7")], [Exposure(M, H, "0", A, "debt", 99)])
            run._raw.driver.set_trace_callback(None)
            touching = {s for s in statements if "fact_" in s and not s.startswith("INSERT")}
            plans = [row[3] for s in sorted(touching) for row in run._raw.fetch(f"EXPLAIN QUERY PLAN {s}")]
    assert len(touching) > len(POSITIONS)
    assert any("USING INDEX uq_fact_exposure_open" in plan for plan in plans)
    joined = [plan for plan in plans if plan.startswith(("SCAN f", "SEARCH f "))]
    assert joined
    assert all("(deployment_id=? AND market=? AND " in plan for plan in joined), joined


def test_an_exception_leaves_the_previous_run_whole(store: Store) -> None:
    write(store, cut_at(10))
    before = snapshot(store, cut_at(10)).digest

    def half_a_run() -> None:
        with store.write_run(cut_at(11)) as run:
            run.positions(D, TARGETS, [])
            run.cut_rows(D, MARKET_ROWS)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half_a_run()
    assert [c.cut for c in store.cuts()] == [cut_at(10)]
    assert snapshot(store, cut_at(10)).digest == before


def test_time_only_moves_forward(store: Store) -> None:
    write(store, cut_at(10))
    for cut in (cut_at(9), cut_at(10, branch="b")):
        with pytest.raises(StoreError, match="run again"), store.write_run(cut):
            pass


@pytest.mark.parametrize("cut", [Cut(()), Cut(cut_at(1).blocks + cut_at(2).blocks)])
def test_a_cut_is_one_block_of_each_source(store: Store, cut: Cut) -> None:
    with pytest.raises(StoreError, match="one block of each source"), store.write_run(cut):
        pass


@pytest.mark.parametrize(("column", "value"), [("shares", "x'00'"), ("asset", "99999999"), ("deployment_id", "77")])
def test_a_damaged_row_is_named(tmp_path: Path, column: str, value: str) -> None:
    with Store.open(f"sqlite:///{tmp_path}/x.db") as store:
        store.migrate()
        write(store, cut_at(1))
        with store._writer() as connection:
            if column == "deployment_id":  # the only reference that a read goes by
                connection.exec_driver_sql("UPDATE fact_price SET deployment_id = 77")
            else:
                connection.exec_driver_sql(f"UPDATE fact_exposure SET {column} = {value} WHERE rowid = 2")
        with pytest.raises(StoreError, match="is damaged in column") as caught:
            store.read(cut_at(1))
        assert "restore" in caught.value.fix


def test_a_failed_deployment_is_not_part_of_the_cut(store: Store) -> None:
    write(store, cut_at(10))
    with store.write_run(cut_at(11)) as run:
        run.cut_rows(D, [Gap(D, "adapter_failed", "boom")])
        run.coverage(D, "failed")
    snap = snapshot(store, cut_at(11))
    assert snap.rows("exposure") == []
    assert [g.reason for g in snap.gaps] == ["adapter_failed"]
    assert store.cursor(D) == 10


def test_accounts_that_a_gap_hid_are_known_until_they_are_read(store: Store) -> None:
    def run(number: int, *gaps: Gap, level: str = "full") -> None:
        with store.write_run(cut_at(number)) as run:
            run.cut_rows(D, gaps)
            run.coverage(D, level)

    assert store.hidden(D) == set()
    run(10, Gap(f"{M}#{H}", "reverted", "balanceOf", 1), Gap(A, "no_price", ""))
    assert store.hidden(D) == {f"{M}#{H}"}
    run(11, Gap(D, "adapter_failed", "boom"), level="failed")  # says nothing of accounts
    assert store.hidden(D) == {f"{M}#{H}"}
    run(12)
    assert store.hidden(D) == set()


def test_hostile_token_names_are_kept_without_harm(store: Store) -> None:
    bad = ["a\0b", "x" * 100_000, "\ud800", "'; DROP TABLE run; --", "é" * 5000]
    rows: list[Row] = [Market(f"{M}/{i}", "amm", "", name) for i, name in enumerate(bad)]
    assets = [Asset(f"eip155:1/erc20:0x{i:040x}", name, 0, name) for i, name in enumerate(bad)]
    cut = cut_at(1)
    with store.write_run(cut) as run:
        run.cut_rows(D, [*rows, *assets])
    store.save_discovery(D, cut.blocks[0], 1, [(M, name, "") for name in bad])
    kept = store.discovery(D)
    assert kept is not None
    assert len(kept.targets) == len(bad)
    found = snapshot(store, cut)
    assert found.digest == build(raw_tables((D, r) for r in rows), cut, store.assets(cut)).digest
    names = [r.name for r in found.rows("market")]
    assert names[3] == bad[3]
    assert all(len(name.encode()) <= 2000 and "\0" not in name for name in names)
    assert len(set(names)) == len(bad)


def test_a_run_finds_the_names_of_earlier_ones_and_loads_no_others(store: Store) -> None:
    """However few or many it needs: 20,000 accounts known, 3 of them read again, then all."""
    odd = ["", "a\0b", "x" * 5000, "é" * 5000, "\ud800"]
    holders = [f"0x{i:040x}" for i in range(20_000)]
    with store.write_run(cut_at(1)) as run:
        run.targets(D, [(M, name, "") for name in [*holders, *odd]])
    known, peaks = store.known_targets(D), list[int]()
    for number, some in ((2, [*holders[5:8], *odd]), (3, [*odd, *holders])):
        tracemalloc.start()
        with store.write_run(cut_at(number)) as run:
            run.positions(D, [(M, name, "1") for name in some], [Exposure(M, n, "1", A, "debt", 7) for n in some if n])
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(snapshot(store, cut_at(number)).rows("exposure")) == len(some) - 1
        assert store.known_targets(D) == known
    assert peaks[0] < peaks[1] / 20


def test_assets_are_as_they_were_at_the_cut(store: Store) -> None:
    old, new = Asset(A, "OLD", 6), Asset(A, "NEW", 6)
    for number, asset in ((1, old), (2, new)):
        with store.write_run(cut_at(number)) as run:
            run.assets([asset, Asset("iso4217:USD", "USD", 2)])
    assert store.assets(cut_at(1))[0] == old
    assert store.assets(cut_at(2))[0] == new
    assert len(store.assets(cut_at(2))) == 2


def test_known_assets_are_read_once_a_run_however_many_deployments_name_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, execute = list[str](), Raw.execute
    monkeypatch.setattr(Raw, "execute", lambda raw, sql, *rest: asked.append(sql) or execute(raw, sql, *rest))
    old, new = Asset(A, "OLD", 6), Asset(A, "NEW", 6)
    with store.write_run(cut_at(1)) as run:
        run.assets([old])
    asked.clear()
    with store.write_run(cut_at(2)) as run:
        for i, asset in enumerate((old, new, old, new)):  # whoever names it last is right, and at one block
            run.cut_rows(f"{D}{i}", [Market(M, "lending", "", ""), asset])
            run.assets([asset])
    assert len([sql for sql in asked if " FROM asset WHERE valid_to IS NULL" in sql and sql.startswith("SELECT")]) == 1
    assert store.assets(cut_at(1)) == [old]
    assert store.assets(cut_at(2)) == [new]


def test_assets_of_a_source_outside_the_cut_do_not_change(store: Store) -> None:
    """A book that names a chain's token must not change its decimals: stored amounts would mean something else."""
    with store.write_run(cut_at(1)) as run:
        run.assets([Asset(A, "USDC", 6)])
    with store.write_run(cut_at(0, source="book:1")) as run:
        run.assets([Asset(A, "USDC", 6), Asset("iso4217:USD", "USD", 8)])
        with pytest.raises(DomainError, match="not in this cut"):
            run.assets([Asset(A, "USDC", 18)])
    assert store.assets(cut_at(1)) == [Asset(A, "USDC", 6), Asset("iso4217:USD", "USD", 8)]


def test_stress_results_are_kept_by_job(store: Store) -> None:
    assert store.stress("j") is None
    for result in (b"{}", b"[1]"):
        store.save_stress("j", "c", "s", "1", result)
        assert store.stress("j") == result


def test_views_show_names_and_exact_bytes(store: Store) -> None:
    write(store, cut_at(10))
    with store._reader() as raw:
        rows = raw.fetch(
            "SELECT deployment, market, holder, asset, shares, shares_approx FROM v_exposure WHERE ref = '4'"
        )
    assert rows == [(D, M, H, A, U256_MAX.to_bytes(32, "big"), pytest.approx(2.0**256, rel=2**-51))]


def test_facts_never_pass_the_orm() -> None:
    from sqlmodel import SQLModel

    from aggregator.store.facts import FACTS

    mapped = {mapper.local_table.name for mapper in SQLModel._sa_registry.mappers}
    assert not mapped & {table.name for table in FACTS.values()}
    assert set(POSITIONS) < set(FACTS)


@pytest.mark.parametrize("bad", ["mysql://x/y", "nonsense", "sqlite:////no/such/folder/x.db"])
def test_unusable_urls_say_what_to_do(bad: str) -> None:
    with pytest.raises((ConfigError, StoreError)) as caught:
        Store.open(bad)
    assert caught.value.expected
    assert caught.value.fix


def test_no_secret_in_a_refusal(new_url: Callable[[], str]) -> None:
    with pytest.raises(ConfigError) as caught:
        Store.open("oracle://me:hunter2@host/db")
    assert "hunter2" not in str(caught.value)

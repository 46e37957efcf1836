"""What every face (commands, API, jobs) asks for, each in one call."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from aggregator import __version__
from aggregator.app.address import typed_address
from aggregator.app.config import Config, data_dir, load_config
from aggregator.app.cuts import choose
from aggregator.app.files import beside, writable, write
from aggregator.app.running import run
from aggregator.core.block import Cut
from aggregator.core.errors import ConfigError, DatabaseError, StoreError, near_miss
from aggregator.core.ids import holder_name, in_book, is_address
from aggregator.core.result import StressResult, job
from aggregator.core.scenario import Scenario, load_scenario
from aggregator.report.coverage import coverage_json
from aggregator.report.plain import cut_json, gap_json
from aggregator.snapshot import Snapshot
from aggregator.snapshot.totals import reconcile
from aggregator.store import Store
from aggregator.store.database import parse_url

if TYPE_CHECKING:
    from aggregator.app.sources import OpenSource
    from aggregator.chain.recording import Recording
    from aggregator.ingest.collect import RunResult
    from aggregator.ingest.estimate import Estimate
    from aggregator.sdk.adapter import Where
    from aggregator.store import StoredCut

Tick = Callable[[str, int, int], None]


class CollectAnswer(NamedTuple):
    """data: the JSON of `collect`. too_many_gaps: beyond collect.allowed_gap_frac, exit code 3. gaps: what they are."""

    data: dict[str, Any]
    too_many_gaps: bool
    gaps: list[dict[str, Any]]


class App:
    def __init__(self, config: Config, store: Store, *, named_config: bool = True) -> None:
        """named_config: a person named the configuration, it was not found by itself."""
        self.config, self.store, self._named_config = config, store, named_config
        self._snapshot: tuple[StoredCut, Snapshot] | None = None

    @classmethod
    def open(cls, path: Path | None = None) -> App:
        """Configuration read and checked, database opened; one of an older version is brought to the current schema.

        A database that is not there yet is made by what writes into it: who only asks leaves nothing behind.
        """
        config = load_config(path)
        store = Store.open(config.store.url)
        store.migrate(writing=False)
        return cls(config, store, named_config=path is not None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.store.close()

    # -- what is stored

    def cuts(self) -> list[Cut]:
        """Newest first."""
        return [stored.cut for stored in self.store.cuts()]

    def latest(self) -> StoredCut:
        """The newest cut; no longer equal once another run at the same blocks has replaced what was read there."""
        return self._stored("")

    def snapshot(self, at: str = "") -> Snapshot:
        """The cut `at`, the newest by default: digest prefix, block, or a time, as unix seconds or as pages print it.

        A time is that of one of the cut's blocks, or names the last cut not younger.
        """
        stored = self._stored(at)
        if self._snapshot is None or self._snapshot[0] != stored:
            from aggregator.snapshot import build

            rows, assets, coverage = self.store.load(stored.cut)
            snap = build(rows, stored.cut, assets, {c.deployment: c.level for c in coverage})
            self._snapshot = stored, snap
        return self._snapshot[1]

    def _stored(self, at: str) -> StoredCut:
        cuts = self.store.cuts()
        if not cuts:
            raise StoreError(
                "the store holds no cut yet",
                expected="at least one run",
                found=f"none in {parse_url(self.config.store.url).render_as_string()}",
                fix="`spillover collect` reads one, `spillover demo` shows one",
            )
        return choose(cuts, at)

    # -- collect

    def collect(self, tick: Tick, record: Path | None = None) -> CollectAnswer:
        """One run over every source with an endpoint. record: also keep every answer in this file."""
        from aggregator.chain.recording import Recording

        if record and self.config.replay.recording:
            raise ConfigError(
                "a replay asks nobody, so there is nothing to record",
                expected="a configuration with endpoints",
                found=f"[replay] recording = {self.config.replay.recording!r} in {self.config.path}",
                fix="copy that recording, or name another --config",
            )
        recorder = Recording() if record and writable(record) else None
        result = run(self._collect(tick, recorder))
        if record and recorder:
            recorder.save(record)
        return self._collected(result.cut, result.failed)

    async def _collect(self, tick: Tick, recorder: Recording | None) -> RunResult:
        from aggregator.ingest.collect import collect

        async with self._line(recorder) as (sources, where, adapters):
            self.store.migrate()  # what cannot be written is said before anything is asked
            return await collect(
                self.store,
                sources,
                where,
                adapters,
                slice_size=self.config.collect.slice_size,
                concurrency=self.config.collect.concurrency,
                facts={"version": __version__, "config_digest": self._config_digest(), "started_s": int(time.time())},
                progress=lambda p: tick(f"{p.phase} {p.deployment}".strip(), p.done, p.total),
            )

    def dry_run(self, tick: Tick) -> list[dict[str, Any]]:
        """What a run would cost by deployment; nothing is written."""
        return [e._asdict() for e in run(self._estimate(tick))]

    async def _estimate(self, tick: Tick) -> list[Estimate]:
        from aggregator.ingest.estimate import estimate

        async with self._line(None) as (sources, where, adapters):
            return await estimate(
                self.store,
                sources,
                where,
                adapters,
                slice_size=self.config.collect.slice_size,
                progress=lambda p: tick(f"dry run {p.deployment}", p.done, p.total),
            )

    @asynccontextmanager
    async def _line(self, recorder: Recording | None) -> AsyncIterator[tuple[list[OpenSource], list[Where], Any]]:
        """Sources that can be read, the deployments on them and the adapters; the sources closed at the end."""
        from aggregator.app.sources import open_sources, where_of
        from aggregator.chain.recording import Recording
        from aggregator.sdk.registry import load_adapters

        config, file = self.config.readable(), self.config.replay.recording
        replayed = Recording.load(beside(config.path, file)) if file else None
        if replayed is None and self.config.chains and not config.chains:
            raise ConfigError(
                "no chain has an endpoint",
                expected="an RPC URL for at least one chain",
                found="none",
                fix=f"export SPILLOVER_RPC_{self.config.chains[0].id}=https://..., or set rpc in {config.path.name}",
            )
        if not self.config.deployments:
            raise ConfigError(
                "the configuration names nothing to read",
                expected="[[deployments]], or a deployments_dir",
                found=f"none in {self.config.path}",
                fix="see docs/configuration.md; without --config the shipped one is used",
            )
        sources = open_sources(config, replayed, recorder)
        known = {s.id for s in sources}
        where = [where_of(d) for d in config.deployments if replayed is None or d.source in known]
        try:
            adapters = load_adapters({w.adapter for w in where})
            for one in where:
                adapters[one.adapter].check(one)
            yield sources, where, adapters
        finally:
            for source in sources:
                await source.close()

    def _config_digest(self) -> str:
        rows = sorted(repr((d.adapter, d.source, d.name, sorted(d.addresses.items()))) for d in self.config.deployments)
        return hashlib.sha256("\n".join(rows).encode()).hexdigest()

    def _collected(self, cut: Cut, failed: Any = ()) -> CollectAnswer:
        snap = self.snapshot(cut.digest)
        data = {
            "run": self.store.cut(cut.digest).number,
            "cut": cut_json(cut),
            "age_s": int(time.time()) - cut.time_s,
            "coverage": coverage_json(snap),
            "reconciliation": self.reconciliation(snap),
        }
        return CollectAnswer(data, bool(failed) or self._hides_too_much(snap), self.gaps(snap))

    def _hides_too_much(self, snap: Snapshot) -> bool:
        from aggregator.snapshot.coverage import hidden_frac

        return hidden_frac(snap) > self.config.collect.allowed_gap_frac

    def import_book(self, directory: Path) -> CollectAnswer:
        """A folder of tables as a cut of its own, at the time that they give (`read_book`)."""
        from aggregator.ingest.book import read_book

        book = read_book(directory)
        self.store.migrate()
        with self.store.write_run(book.cut, version=__version__) as writer:
            writer.assets(book.assets)
            for deployment in sorted({*book.cut_rows, *book.positions}):
                writer.cut_rows(deployment, book.cut_rows.get(deployment, []))
                rows = book.positions.get(deployment, [])
                targets = sorted({(r.market, r.holder, r.ref) for r in rows})
                writer.targets(deployment, targets)
                writer.positions(deployment, targets, rows)
        return self._collected(book.cut)

    # -- answers

    def wallet(self, address: str, at: str = "") -> dict[str, Any]:
        return self.wallet_of(*self._held(address, at))

    def wallet_of(self, snap: Snapshot, holder: str) -> dict[str, Any]:
        """holder: as `holder_in` gives it."""
        from aggregator.report.wallet import wallet

        return wallet(snap, holder, int(time.time()))

    def age_s(self, at: str = "") -> int:
        """Seconds since the cut, negative for one dated after this machine's clock."""
        return int(time.time()) - self.snapshot(at).cut.time_s

    def _held(self, text: str, at: str) -> tuple[Snapshot, str]:
        try:
            snap = self.snapshot(at)
        except StoreError:
            if _begins_as_address(text):
                typed_address(text)  # a typing error is told even where there is no store yet
            raise
        return snap, self.holder_in(snap, text)

    def holder_in(self, snap: Snapshot, text: str) -> str:
        """The holder that a person means: an account of a venue or book in the cut, else an EVM address, its checksum
        tested. ConfigError for what is neither."""
        from aggregator.report.wallet import wallet_accounts

        kinds = ("exposure", "perp", "option")
        name = holder_name(text.strip())
        address = is_address(name)
        accounts = wallet_accounts(snap, name)
        if address:  # a book may write addresses in any case; on a chain a wrong checksum is a typing error
            accounts = (a for a in accounts if in_book(a.market))
        if next(accounts, None) is not None:
            return name
        held = {snap.names[h] for kind in kinds for h in set(snap.tables[kind]["holder"].tolist())}
        near = "" if address else near_miss(name, sorted(h for h in held if not is_address(h)))
        if _begins_as_address(text) and not near:
            return typed_address(text)
        raise ConfigError(
            f"{text!r} holds nothing at this cut",
            expected="an EVM address, or an account of a venue or book in it",
            found=repr(text),
            fix=near or "names such as ENS are not resolved; pass the address",
        )

    def explain_wallet(self, address: str, figure: str, at: str = "") -> dict[str, Any]:
        from aggregator.report.explain import explain_wallet

        snap, holder = self._held(address, at)
        return explain_wallet(snap, holder, figure)

    def gaps(self, snap: Snapshot) -> list[dict[str, Any]]:
        return [gap_json(g) for g in snap.gaps]

    def reconciliation(self, snap: Snapshot) -> list[dict[str, Any]]:
        return [r.plain() for r in reconcile(snap)]

    def exposure(self, asset: str, at: str = "") -> dict[str, Any]:
        from aggregator.report.exposure import exposure

        return exposure(self.snapshot(at), asset) | {"age_s": self.age_s(at)}

    def export_graph(self, output: Path, at: str = "") -> None:
        from aggregator import graph

        snap = self.snapshot(at)
        graph.write(graph.build(snap), writable(output, ".graphml", ".json"))

    # -- stress

    def scenario_names(self) -> list[str]:
        return sorted(f.stem for f in (data_dir("config") / "scenarios").glob("*.toml"))

    def scenario(self, text: str) -> Scenario:
        """A scenario file, or a name from config/scenarios."""
        return load_scenario(Path(text)) if text.endswith(".toml") else self.scenario_by_name(text, "a file.toml or ")

    def scenario_by_name(self, name: str, otherwise: str = "") -> Scenario:
        """A name from config/scenarios, and nothing else: requests come from anybody. otherwise: for the error."""
        names = self.scenario_names()
        if name not in names:
            raise ConfigError(
                f"no scenario {name!r}",
                expected=otherwise + "one of " + ", ".join(names),
                found=name,
                fix=near_miss(name, names, "docs/configuration.md says how to write your own"),
            )
        return load_scenario(data_dir("config") / "scenarios" / f"{name}.toml")

    def stress(
        self, scenario: str | Scenario, at: str, tick: Tick, report: Path | None = None, *, keep: bool = False
    ) -> dict[str, Any]:
        """Run, keep in the store if asked, and write report (HTML) and its JSON beside it if named."""
        if report is not None:
            writable(report, ".html", ".htm")
        chosen = scenario if isinstance(scenario, Scenario) else self.scenario(scenario)
        snap = self.snapshot(at)
        result = self._run(snap, chosen, tick)
        body = result.json()
        if keep:
            self.store.save_stress(result.job, snap.cut.digest, chosen.digest, result.version, body)
        if report is not None:
            from aggregator.app.rerun import rerun_line
            from aggregator.report.stress import html

            again = ""
            if isinstance(scenario, str):
                again = rerun_line(self.config, scenario, snap.cut.digest, report, named_config=self._named_config)
            write(report, html(result, snap, again).encode())
            write(report.with_suffix(".json"), body)
        answer: dict[str, Any] = json.loads(body)
        return answer

    def wanting(self, answer: dict[str, Any], at: str) -> bool:
        """Whether what a stress says of the cut `at` is not to be relied on, exit code 3: it read nobody's account, or
        hides more of them than `collect.allowed_gap_frac`, or did not settle."""
        read = any(c["accounts"] for c in answer["coverage"])
        return not read or not answer["convergence"]["converged"] or self._hides_too_much(self.snapshot(at))

    @staticmethod
    def job(snap: Snapshot, scenario: Scenario) -> str:
        """Name of a stress (`core.result.job`)."""
        return job(snap.digest, scenario.digest, __version__)

    def stress_of(self, snap: Snapshot, scenario: Scenario) -> dict[str, Any]:
        """As it was stored, computed where it was not."""
        body = None
        with suppress(DatabaseError):  # while it is away, what is held answers on
            body = self.store.stress(self.job(snap, scenario))
        if body is None:
            body = self._run(snap, scenario, lambda name, done, total: None).json()
        answer: dict[str, Any] = json.loads(body)
        return answer

    def _run(self, snap: Snapshot, scenario: Scenario, tick: Tick) -> StressResult:
        from aggregator import engine, graph

        return engine.stress(
            snap, graph.build(snap), scenario, on_round=lambda n: tick("rounds", n, scenario.conventions.max_rounds)
        )


def _begins_as_address(text: str) -> bool:
    return text.strip().lower().startswith("0x")

"""`spillover doctor`: one finding per thing that can be wrong before a run, each with how to mend it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aggregator.app.config import ChainConfig, Config, load_config
from aggregator.app.running import run
from aggregator.core.errors import ConfigError, SpilloverError
from aggregator.core.words import count

if TYPE_CHECKING:
    from aggregator.chain.probe import EndpointReport

Finding = dict[str, str]
LAG_S = 300  # between heads of endpoints of one chain; balancers differ by seconds


def examine(path: Path | None) -> list[Finding]:
    """Findings {check, status ok | warn | fail, detail, fix}; ConfigError for a configuration that cannot be read."""
    config = load_config(path)
    counts = f"{count(len(config.chains), 'chain')}, {count(len(config.deployments), 'deployment')}"
    findings = [_finding("configuration", "ok", counts)]
    if not config.deployments:
        findings = [_finding("configuration", "warn", f"{counts}: collect has nothing to read", "add [[deployments]]")]
    findings += [_stray(name) for name in stray_endpoints(config)]
    findings += _adapters(config)
    findings += [_recording(config)] if config.replay.recording else run(_chains(config))
    findings += _database(config)
    return findings


def _finding(check: str, status: str, detail: str, fix: str = "") -> Finding:
    return {"check": check, "status": status, "detail": detail, "fix": fix}


def _adapters(config: Config) -> list[Finding]:
    from aggregator.app.sources import where_of
    from aggregator.sdk.registry import load_adapters

    try:
        known = load_adapters({d.adapter for d in config.deployments})
    except SpilloverError as error:
        return [_finding("adapters", "fail", error.message, error.fix)]
    findings = []
    for where in map(where_of, config.deployments):
        try:
            known[where.adapter].check(where)
        except ConfigError as error:
            said = f"{error.message.removeprefix('deployment ')}; expected {error.expected}, found {error.found}"
            findings.append(_finding("deployment", "fail", said, error.fix))
    return [_finding("adapters", "ok", ", ".join(known) or "none configured"), *findings]


def stray_endpoints(config: Config, env: Mapping[str, str] = os.environ) -> list[str]:
    """SPILLOVER_RPC_ variables of chains that are not configured: nobody would read them."""
    known = {f"SPILLOVER_RPC_{c.id}" for c in config.chains}
    return sorted(name for name in env if name.startswith("SPILLOVER_RPC_") and name not in known)


def _stray(name: str) -> Finding:
    number = name.removeprefix("SPILLOVER_RPC_")
    fix = (
        f"add [[chains]] id = {number}" if number.isdigit() else "use SPILLOVER_RPC_<chain id>, such as SPILLOVER_RPC_1"
    )
    return _finding(name, "warn", "is set, but no chain of the configuration has this id", fix)


def _recording(config: Config) -> Finding:
    from aggregator.app.files import beside
    from aggregator.chain.recording import Recording

    file = config.replay.recording
    try:
        sources = sorted({b.source for b in Recording.load(beside(config.path, file)).blocks()})
    except SpilloverError as error:
        return _finding("recording", "fail", f"{file}: {error.message}", error.fix or "check [replay] recording")
    return _finding("recording", "ok", f"{file} stands in for {', '.join(sources)}; no endpoint is asked")


async def _chains(config: Config) -> list[Finding]:
    parts = await asyncio.gather(*(_chain(c) for c in config.chains))
    return [f for part in parts for f in part]


async def _chain(chain: ChainConfig) -> list[Finding]:
    from aggregator.chain.pool import RpcPool
    from aggregator.chain.probe import probe

    if not chain.rpc:
        fix = f"export SPILLOVER_RPC_{chain.id}=https://... if you want this chain"
        return [_finding(f"chain {chain.id}", "warn", f"{chain.name} has no endpoint and is left out".strip(), fix)]
    async with RpcPool(chain.id, chain.rpc, timeout_s=chain.timeout_s, deadline_s=chain.timeout_s) as pool:
        reports = await probe(pool, chain.multicall)
        findings = [f for n, report in enumerate(reports, 1) for f in _endpoint(chain, n, report)]
        findings += _standing_still(chain, reports)
        if any(f["status"] == "fail" for f in findings):
            return findings
        try:
            at = await pool.pin(str(chain.finality))
        except SpilloverError as error:
            return [*findings, _finding(f"chain {chain.id} agreement", "fail", error.message, error.fix)]
        detail = (
            f"{pool.agreement.agreed} of {pool.agreement.asked} endpoints agree on {chain.finality} block {at.number}"
        )
        return [*findings, _finding(f"chain {chain.id} agreement", "ok", detail)]


def _endpoint(chain: ChainConfig, number: int, report: EndpointReport) -> list[Finding]:
    name = f"chain {chain.id} endpoint {number}"
    if report.chain is None:
        why = "; ".join(report.problems) or "no answer"
        return [_finding(name, "fail", f"{report.name}: {why}", f"check rpc or SPILLOVER_RPC_{chain.id}")]
    if report.chain != chain.id:
        fix = f"give an endpoint of chain {chain.id}, or set SPILLOVER_RPC_{report.chain}"
        return [_finding(name, "fail", f"{report.name}: serves chain {report.chain}", fix)]
    can = [word for word, has in (("batches", report.batches), ("reads by block hash", report.by_hash)) if has]
    detail = f"{report.name}: answers in {1000 * report.latency_s:.0f} ms, {', '.join(can) or 'single calls by number'}"
    out = [_finding(name, "ok", detail)]
    wanted = str(chain.finality)
    if wanted.isdigit() or wanted in report.heads:
        at = report.heads.get(wanted) or report.heads["latest"]
        out.append(_finding(f"{name} finality", "ok", f"{wanted}: head at block {at.number}"))
    else:
        fix = 'set finality = "latest", or a number of blocks behind the head'
        out.append(_finding(f"{name} finality", "fail", f"gives no {wanted!r} block", fix))
    if not chain.multicall:
        out.append(_finding(f"{name} multicall", "ok", "none configured; reads go by JSON-RPC batches"))
    elif report.multicall:
        out.append(_finding(f"{name} multicall", "ok", chain.multicall))
    else:
        fix = 'set multicall = "" (slower), or the address of Multicall3 on this chain'
        out.append(_finding(f"{name} multicall", "warn", f"no contract at {chain.multicall}", fix))
    return out


def _standing_still(chain: ChainConfig, reports: Sequence[EndpointReport]) -> list[Finding]:
    """Endpoints far behind the others: a run is pinned where most endpoints are."""
    heads = {n: r.heads["latest"] for n, r in enumerate(reports, 1) if r.chain == chain.id and "latest" in r.heads}
    newest = max((head.time_s for head in heads.values()), default=0)
    fix = "remove it until it has caught up: the cut may be as old as its head"
    return [
        _finding(
            f"chain {chain.id} endpoint {n} head", "warn",
            f"{reports[n - 1].name}: block {head.number} is {newest - head.time_s} s behind another endpoint's", fix
        )
        for n, head in heads.items()
        if newest - head.time_s > LAG_S
    ]  # fmt: skip


def _database(config: Config) -> list[Finding]:
    from aggregator.store import Store

    try:
        with Store.open(config.store.url) as store:
            store.migrate(writing=False)
            cuts, unwritable = store.cuts(), store.unwritable
    except SpilloverError as error:
        fix = error.fix if "doctor" not in error.fix else ""  # that is where we are
        said = " ".join(f"{error.message}: {error.found}".split()) if error.found else error.message
        return [_finding("database", "fail", said, fix or "check store.url or SPILLOVER_STORE_URL")]
    newest = f", newest {cuts[0].cut.digest[:12]}" if cuts else ""
    detail = f"{count(len(cuts), 'cut')}{newest}" if cuts else "no cut yet; the first run makes what it needs"
    if unwritable:
        fix = "let this user write the file and its folder on a disk with space, or set [store] url to another"
        return [_finding("database", "warn", f"can be read and not written ({unwritable}): {detail}", fix)]
    return [_finding("database", "ok", detail)]

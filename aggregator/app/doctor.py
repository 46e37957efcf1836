"""`spillover doctor`: one finding per thing that can be wrong before a run, each with how to mend it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from aggregator.app.config import ChainConfig, Config, load_config
from aggregator.core.block import BlockRef
from aggregator.core.errors import SpilloverError

Finding = dict[str, str]
EMPTY = "0x"


def examine(path: Path | None) -> list[Finding]:
    """Findings {check, status ok | warn | fail, detail, fix}; ConfigError for a configuration that cannot be read."""
    config = load_config(path)
    findings = [_finding("configuration", "ok", f"{len(config.chains)} chains, {len(config.deployments)} deployments")]
    findings += _adapters(config)
    findings += asyncio.run(_chains(config))
    findings += _database(config)
    return findings


def _finding(check: str, status: str, detail: str, fix: str = "") -> Finding:
    return {"check": check, "status": status, "detail": detail, "fix": fix}


def _adapters(config: Config) -> list[Finding]:
    from aggregator.sdk.registry import load_adapters

    try:
        known = load_adapters()
    except SpilloverError as error:
        return [_finding("adapters", "fail", error.message, error.fix)]
    missing = sorted({d.adapter for d in config.deployments} - set(known))
    if missing:
        return [_finding("adapters", "fail", f"no adapter for {', '.join(missing)}", f"one of {', '.join(known)}")]
    return [_finding("adapters", "ok", ", ".join(known))]


async def _chains(config: Config) -> list[Finding]:
    parts = await asyncio.gather(*(_chain(c) for c in config.chains))
    return [f for part in parts for f in part]


async def _chain(chain: ChainConfig) -> list[Finding]:
    if not chain.rpc:
        fix = f"export SPILLOVER_RPC_{chain.id}=https://... if you want this chain"
        return [_finding(f"chain {chain.id}", "warn", f"{chain.name} has no endpoint and is left out", fix)]
    findings: list[Finding] = []
    pinned: list[BlockRef] = []
    for number, url in enumerate(chain.rpc, 1):
        findings += await _endpoint(chain, url, f"chain {chain.id} endpoint {number}", pinned)
    if len(chain.rpc) > 1 and len(pinned) == len(chain.rpc):
        findings.append(await _agreement(chain))
    return findings


async def _endpoint(chain: ChainConfig, url: str, name: str, pinned: list[BlockRef]) -> list[Finding]:
    from aggregator.chain.pool import RpcPool

    out: list[Finding] = []
    async with RpcPool(chain.id, [url], timeout_s=chain.timeout_s, deadline_s=chain.timeout_s, rounds=2) as pool:
        try:
            await pool.check_chain_id()
            out.append(_finding(name, "ok", "answers, and serves this chain"))
            at = await pool.pin(str(chain.finality))
            pinned.append(at)
            out.append(_finding(f"{name} finality", "ok", f"{chain.finality} is block {at.number}"))
            if not chain.multicall:
                out.append(_finding(f"{name} multicall", "ok", "none configured; reads go by JSON-RPC batches"))
                return out
            code = await pool.request("eth_getCode", [chain.multicall, pool.at_block(at)])
            if code == EMPTY:
                fix = 'set multicall = "" (slower), or the address of Multicall3 on this chain'
                out.append(_finding(f"{name} multicall", "warn", f"no contract at {chain.multicall}", fix))
            else:
                out.append(_finding(f"{name} multicall", "ok", chain.multicall))
        except SpilloverError as error:
            detail = f"{error.message} ({error.found})" if error.found else error.message
            out.append(_finding(name, "fail", detail, error.fix or f"check rpc or SPILLOVER_RPC_{chain.id}"))
    return out


async def _agreement(chain: ChainConfig) -> Finding:
    from aggregator.chain.pool import RpcPool

    name = f"chain {chain.id} agreement"
    async with RpcPool(chain.id, chain.rpc, timeout_s=chain.timeout_s, deadline_s=chain.timeout_s) as pool:
        try:
            at = await pool.pin(str(chain.finality))
        except SpilloverError as error:
            return _finding(name, "fail", error.message, error.fix)
        return _finding(name, "ok", f"{pool.agreement.agreed} of {pool.agreement.asked} agree on block {at.number}")


def _database(config: Config) -> list[Finding]:
    from aggregator.store import Store

    try:
        with Store.open(config.store.url) as store:
            store.migrate()
            cuts = store.cuts()
    except SpilloverError as error:
        return [_finding("database", "fail", error.message, error.fix or "check store.url or SPILLOVER_STORE_URL")]
    detail = f"schema is current, {len(cuts)} cuts" + (f", newest {cuts[0].cut.digest[:12]}" if cuts else "")
    return [_finding("database", "ok", detail)]

"""Check me: any figure of a wallet opened into formula, inputs and rounding, down to the call that gave each integer.

A node is {figure, value, formula, rounding, inputs}; a leaf carries `source` instead: for a chain the contract,
calldata, word of the answer, block and a copyable `cast call` line; for a venue the request.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aggregator.core.account import Account, Leg
from aggregator.core.errors import ConfigError, near_miss
from aggregator.core.fixed import plain
from aggregator.core.source import CallSource, HttpSource, LogSource, read_source
from aggregator.report.names import clean
from aggregator.report.plain import cut_json
from aggregator.report.wallet import health_text, judge, leg_usd, unit_usd, wallet_accounts
from aggregator.snapshot import Snapshot

Node = dict[str, Any]
FIGURES = ("health_factor", "collateral_usd", "debt_usd")
HEALTH: dict[str, tuple[str, str]] = {
    "aave_v3": (
        "sum(collateral value x liquidation threshold) / debt value / 10^4 (GenericLogic.calculateUserAccountData)",
        "wadDiv half up before 3.5, once on the weighted sum from 3.5",
    ),
    "morpho_blue": (
        "floor(floor(collateral x price / 10^36) x LLTV / 10^18) / debt (Morpho._isHealthy)",
        "collateral side down, debt up",
    ),
    "compound_v2": ("sum(collateral value x collateral factor) / debt value", "down"),
    "lyra_v1": ("collateral / minimum collateral (OptionGreekCache.getMinCollateral)", "down"),
    "perp_curie": ("account value / maintenance margin requirement (ClearingHouse, AccountBalance)", "down"),
}
# where the numerator is worked out from stored totals: the call does not answer this very integer
ACCRUED = {"morpho_blue": "accrued to the cut from the totals that this call answers, plus the virtual asset"}
ACCRUED_DEN = {"morpho_blue": "accrued with the numerator: total shares plus the virtual shares"}
CONSTANT = "constant of the protocol, or read with the numerator"
PACKED = {("35ea6a75", "liquidation_threshold_bps"): "bits 16 to 31 of word 0 (ReserveConfigurationMap)"}
THRESHOLDS = {"aave_v3": "liquidation_threshold_bps", "compound_v2": "collateral_factor_wad"}


def explain_wallet(snap: Snapshot, address: str, figure: str) -> Node:
    """figure: health_factor, collateral_usd, debt_usd, or one leg as <asset id or symbol>:<side>."""
    parts = [_account(snap, account, figure) for account in wallet_accounts(snap, address)]
    parts = [p for p in parts if p is not None]
    if not parts:
        raise _no_figure(snap, address, figure)
    return {"address": address, "figure": figure, "cut": cut_json(snap.cut), "positions": parts}


def _no_figure(snap: Snapshot, address: str, figure: str) -> ConfigError:
    legs = [f"{_symbol(snap, leg.asset)}:{leg.side}" for a in wallet_accounts(snap, address) for leg in a.legs]
    if not legs:
        return ConfigError(
            f"{address} has no position at this cut", expected="a wallet with positions", found=address,
            fix="spillover wallet says what was read; --at names another cut",
        )  # fmt: skip
    known = [name for name in (*FIGURES, *dict.fromkeys(legs)) if name != figure]
    fix = near_miss(figure, known, "another figure") if figure not in FIGURES else "ask for a leg, or another figure"
    return ConfigError(f"{address} has no {figure} at this cut", expected=", ".join(known), found=figure, fix=fix)


def text(tree: Node) -> str:
    """The tree for a terminal, calls as lines to copy."""
    lines = [f"{tree['figure']} of {tree['address']} at cut {tree['cut']['digest'][:12]}"]
    for part in tree["positions"]:
        lines += ["", part["market"], *_text(part, 1)]
    return "\n".join(lines)


def _text(node: Node, depth: int) -> Iterable[str]:
    pad = "  " * depth
    yield f"{pad}{node['figure']} = {node['value']}"
    if "formula" in node:
        yield f"{pad}  = {node['formula']}   [rounding: {node['rounding']}]"
        for child in node["inputs"]:
            yield from _text(child, depth + 1)
    elif source := node.get("source"):
        yield f"{pad}  {source['call']}" if "call" in source else f"{pad}  {source['note']}"
        if "word" in source:
            yield f"{pad}  # {source.get('derived') or 'word ' + str(source['word']) + ' of the answer'}"


def _account(snap: Snapshot, account: Account, figure: str) -> Node | None:
    judgement, _, gap = judge(snap, account)
    protocol = account.rule.split("@")[0]
    top: Node
    if figure in FIGURES:
        if judgement is None:
            return (
                None if gap is None else {"market": account.market, "figure": figure, "value": f"unknown: {gap.detail}"}
            )
        if figure == "health_factor":
            if judgement.health_factor is None:
                return None
            formula, rounding = HEALTH.get(protocol, ("threshold-weighted collateral / debt", "down"))
            inputs = [_value(snap, account, leg, protocol) for leg in account.legs if leg.side != "supply"]
            top = _node("health_factor", health_text(judgement), formula, rounding, [*inputs, *_own(snap, account)])
        else:
            amount = judgement.collateral if figure == "collateral_usd" else judgement.debt
            sides = ("debt",) if figure == "debt_usd" else ("collateral", "margin", "long", "short")
            inputs = [_value(snap, account, leg, protocol) for leg in account.legs if leg.side in sides]
            unit = _symbol(snap, judgement.unit)
            dollars = unit_usd(snap, judgement, amount) or f"unknown; {plain(amount, judgement.exp)} {unit}"
            top = _node(figure, dollars, f"sum of leg values in {unit}", "as the contract rounds each leg", inputs)
    else:
        wanted, _, side = figure.rpartition(":")
        legs = [g for g in account.legs if g.side == side and wanted in (g.asset, _symbol(snap, g.asset))]
        if not legs:
            return None
        top = _value(snap, account, legs[0], protocol)
    return {"market": account.market, "rule": account.rule, **top}


def _value(snap: Snapshot, account: Account, leg: Leg, protocol: str) -> Node:
    """One leg: value = amount x price, amount = shares x index; the threshold beside it where it counts."""
    symbol, market = _symbol(snap, leg.asset), account.market
    index = next(iter(snap.rows("index", market=market, asset=leg.asset, side=leg.side)), None)
    signed = leg.terms.get("size", leg.shares)  # a perpetual's size as its contract answers: negative where short
    shares = _leaf(snap, "shares", signed, leg.src, market)
    amount = shares
    if index is not None and (index.num, index.den) != (1, 1):
        num = _leaf(snap, "index numerator", index.num, index.src, market)
        if protocol in ACCRUED:
            num["source"]["derived"] = ACCRUED[protocol]
        den = _constant("index denominator", index.den, ACCRUED_DEN.get(protocol, CONSTANT))
        amount = _node(
            f"{symbol} {leg.side} amount",
            leg.amount,
            "shares x numerator / denominator",
            index.rounding,
            [shares, num, den],
        )
    prices = [p for p in snap.rows("price", market=market, asset=leg.asset) if p.raw > 0][:1]
    inputs = [
        amount,
        *(_leaf(snap, f"price in {_symbol(snap, p.quote)} x 10^{p.exp}", p.raw, p.src, market) for p in prices),
    ]
    if leg.side == "collateral" and (key := THRESHOLDS.get(protocol)):
        scoped = {f"emode:{account.own['emode']}"} if account.own.get("emode") else set()
        terms = [t for t in snap.rows("term", market=market, key=key) if t.asset == leg.asset or t.scope in scoped]
        inputs += [_leaf(snap, f"{t.scope} {key}".strip(), t.raw, t.src, market) for t in terms]
    if protocol == "morpho_blue" and leg.side == "collateral":
        inputs += [_leaf(snap, t.key, t.raw, t.src, market) for t in snap.rows("term", market=market, key="lltv_wad")]
    value = leg_usd(snap, leg, account)
    known = plain(leg.amount, leg.decimals) if leg.decimals >= 0 else f"raw {leg.amount}, decimals unknown,"
    shown = f"{known} {symbol}" + (f" (USD {value})" if value else "")
    return _node(f"{symbol} {leg.side}", shown, "amount x price / 10^decimals", "as the contract rounds", inputs)


def _own(snap: Snapshot, account: Account) -> list[Node]:
    rows = snap.rows("account_term", market=account.market, holder=account.holder)
    return [_leaf(snap, f"account {r.key}", r.raw, r.src, account.market) for r in rows]


def _node(figure: str, value: Any, formula: str, rounding: str, inputs: list[Node]) -> Node:
    return {"figure": figure, "value": str(value), "formula": formula, "rounding": rounding, "inputs": inputs}


def _constant(figure: str, value: int, note: str) -> Node:
    return {"figure": figure, "value": str(value), "source": {"note": note}}


def _leaf(snap: Snapshot, figure: str, raw: int, src: bytes, where: str) -> Node:
    source = source_json(snap, src, where)
    if "data" in source and (packed := PACKED.get((source["data"][2:10], figure))):
        source["derived"] = packed
    return {"figure": figure, "value": str(raw), "source": source}


def source_json(snap: Snapshot, src: bytes, where: str) -> Node:
    """Where a raw integer came from; where: any id on the same source."""
    found = read_source(src)
    block = snap.cut.at(where.split("/", 1)[0])
    if isinstance(found, CallSource) and block is not None:
        data = "0x" + found.data.hex()
        line = f'cast call {found.to} {data} --block {block.number} --rpc-url "$SPILLOVER_RPC_{block.chain}"'
        return {
            "call": line,
            "to": found.to,
            "data": data,
            "word": found.word,
            "block": block.number,
            "block_hash": block.hash,
        }
    if isinstance(found, LogSource):
        return {"note": f"log {found.log_index} of block {found.block} by {found.address}"}
    if isinstance(found, HttpSource):
        return {"note": f"{where.split('/', 1)[0]} {found.path}"}
    return {"note": "derived from other rows, or given by a person"}


def _symbol(snap: Snapshot, asset: str) -> str:
    known = snap.assets.get(asset)
    return clean(known.symbol if known and known.symbol else asset.rsplit(":", 1)[-1])

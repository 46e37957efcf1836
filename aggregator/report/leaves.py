"""Nodes of an explained figure: {figure, value, formula, rounding, inputs}; a leaf carries `source` instead.

A source is, for a chain, the contract, calldata, word of the answer, block and a copyable `cast call` line; for a venue
the request.
"""

from __future__ import annotations

from typing import Any

from aggregator.core.fixed import plain
from aggregator.core.ids import adapter_of
from aggregator.core.rows import Claim, Price
from aggregator.core.source import CallSource, HttpSource, LogSource, read_source
from aggregator.report.formulas import DERIVED, PACKED
from aggregator.report.names import clean
from aggregator.snapshot import Snapshot, prices

Node = dict[str, Any]


def node(figure: str, value: object, formula: str, rounding: str, inputs: list[Node]) -> Node:
    return {"figure": figure, "value": str(value), "formula": formula, "rounding": rounding, "inputs": inputs}


def constant(figure: str, value: object, note: str) -> Node:
    return {"figure": figure, "value": str(value), "source": {"note": note}}


def leaf(snap: Snapshot, figure: str, raw: int, src: bytes, where: str) -> Node:
    source = source_json(snap, src, where)
    if "data" in source:
        derived = PACKED.get((source["data"][2:10], figure)) or DERIVED.get((adapter_of(where), figure.split()[-1]))
        source |= {"derived": derived} if derived else {}
    return {"figure": figure, "value": str(raw), "source": source}


def source_json(snap: Snapshot, src: bytes, where: str) -> Node:
    """Where a raw integer came from; where: any id on the same source."""
    found = read_source(src)
    block = snap.cut.at(where.split("/", 1)[0])
    if isinstance(found, CallSource) and block is not None:
        data = "0x" + found.data.hex()
        line = f'cast call {found.to} {data} --block {block.number} --rpc-url "${{SPILLOVER_RPC_{block.chain}%%,*}}"'
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


def price_leaf(snap: Snapshot, price: Price) -> Node:
    name = f"price in {symbol(snap, price.quote)} x 10^{price.exp}"
    return leaf(snap, name, price.raw, price.src, price.market or price.asset)


def dollars(snap: Snapshot, asset: str) -> Node | None:
    """The dollars of one whole asset by the path that `snapshot.prices` took, opened to its prices and claims."""
    found = prices.usd(snap, asset)
    if found is None:
        return None
    price, path = found
    name, value = f"USD per {symbol(snap, asset)}", plain(price.raw, price.exp)
    for row in snap.rows("price", asset=asset):
        step = f"{row.path}@{row.market}" if row.market else row.path
        quote = prices.usd(snap, row.quote)
        if quote is None or row.raw < 0:
            continue
        if path == step and (row.raw, row.exp) == (price.raw, price.exp):
            return node(name, value, "price / 10^places", "none", [price_leaf(snap, row)])
        if path == f"{step} > {quote[1]}" and row.raw * quote[0].raw == price.raw:
            under = dollars(snap, row.quote)
            return node(name, value, "price x USD per quote", "none", [price_leaf(snap, row), *known_nodes(under)])
    inputs = [part for claim in snap.rows("claim", asset=asset) for part in _backing(snap, claim)]
    return node(name, value, "sum(numerator / denominator x 10^places x USD per underlying)", "down, once", inputs)


def _backing(snap: Snapshot, claim: Claim) -> list[Node]:
    under = symbol(snap, claim.underlying)
    what = (
        "fees" if adapter_of(claim.market or claim.asset) == "uniswap_v3" and claim.kind == "receipt" else "numerator"
    )
    num = leaf(snap, f"{under} {what}", claim.num, claim.src, claim.market or claim.asset)
    den = constant(f"{under} denominator", claim.den, "read with the numerator")
    places = snap.assets[claim.asset].decimals - snap.assets[claim.underlying].decimals
    shift = constant(f"{under} places", places, "decimals of the claim less those of what it stands for")
    return [num, den, shift, *known_nodes(dollars(snap, claim.underlying))]


def known_nodes(found: Node | None) -> list[Node]:
    return [] if found is None else [found]


def symbol(snap: Snapshot, asset: str) -> str:
    known = snap.assets.get(asset)
    return clean(known.symbol if known and known.symbol else asset.rsplit(":", 1)[-1])

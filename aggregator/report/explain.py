"""Check me: any figure of a wallet opened into formula, inputs and rounding, down to the calls that gave integers."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Iterable
from contextlib import suppress

from aggregator import rules
from aggregator.core.account import Account, Leg
from aggregator.core.errors import ConfigError, near_miss
from aggregator.core.fixed import plain
from aggregator.core.rows import OptionLeg, Term
from aggregator.report.formulas import ACCRUED_DEN, CONSTANT, MARGINED, THRESHOLDS
from aggregator.report.formulas import figure as formula_of
from aggregator.report.leaves import Node, constant, dollars, known_nodes, leaf, node, price_leaf, symbol
from aggregator.report.plain import cut_json
from aggregator.report.wallet import health_text, judge, leg_usd, option_of, unit_usd, wallet_accounts
from aggregator.rules.aave_v3 import AaveV3
from aggregator.rules.base import CannotJudgeError
from aggregator.snapshot import Snapshot
from aggregator.snapshot.derivatives import mark_usd, settlement
from aggregator.snapshot.prices import own_price, usd
from aggregator.snapshot.symbols import meaning, standing

FIGURES = ("health_factor", "collateral_usd", "debt_usd", "requirement_usd")
LENT = {"health_factor": ("collateral", "debt"), "collateral_usd": ("collateral",), "debt_usd": ("debt",)}
NONE = {
    "debt_usd": "nothing is owed: what the market requires as margin is requirement_usd",
    "requirement_usd": "no margin is required: what is owed is debt_usd",
}


def explain_wallet(snap: Snapshot, address: str, figure: str) -> Node:
    """figure: one of FIGURES, or one leg as <asset id or symbol>:<side>."""
    wanted = _meant(snap, address, figure.rpartition(":")[0])
    parts = [part for account in wallet_accounts(snap, address) for part in _account(snap, account, figure, wanted)]
    if not parts:
        raise _no_figure(snap, address, figure)
    return {"address": address, "figure": figure, "cut": cut_json(snap.cut), "positions": parts}


def _meant(snap: Snapshot, address: str, text: str) -> Collection[str]:
    """Assets of the wallet that an id or a symbol means."""
    held = {leg.asset: symbol(snap, leg.asset) for account in wallet_accounts(snap, address) for leg in account.legs}
    return meaning(text, held, standing(snap)).assets


def _no_figure(snap: Snapshot, address: str, figure: str) -> ConfigError:
    legs = []
    for leg in (leg for account in wallet_accounts(snap, address) for leg in account.legs):
        name = symbol(snap, leg.asset)
        legs.append(f"{name if leg.asset in _meant(snap, address, name) else leg.asset}:{leg.side}")
    if not legs:
        return ConfigError(
            f"{address} has no position at this cut", expected="a wallet with positions", found=address,
            fix=f"`spillover wallet {shlex.quote(address)}` says what was read; --at names another cut",
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


def _account(snap: Snapshot, account: Account, figure: str, wanted: Collection[str]) -> list[Node]:
    """The figure of one account, or each of its legs of the assets wanted; none where it has no such thing."""
    protocol = account.rule.split("@")[0]
    place = {"market": account.market, "rule": account.rule}
    if figure not in FIGURES:
        side = figure.rpartition(":")[2].lower()
        legs = (g for g in account.legs if g.side == side and g.asset in wanted)
        return [place | _value(snap, account, leg, protocol) for leg in legs]
    judgement, _, gap = judge(snap, account)
    if judgement is None:
        return [] if gap is None else [{"market": account.market, "figure": figure, "value": f"unknown: {gap.detail}"}]
    if figure == "health_factor" and judgement.health_factor is None:
        return []
    if figure == ("debt_usd" if judgement.margined else "requirement_usd"):
        return [place | node(figure, unit_usd(snap, judgement, 0), NONE[figure], "none", [])]
    unit = symbol(snap, judgement.unit)
    amount = judgement.collateral if figure == "collateral_usd" else judgement.debt
    shown = unit_usd(snap, judgement, amount) or f"unknown; {plain(amount, judgement.exp)} {unit}"
    legs = (g for g in account.legs if protocol in MARGINED or g.side in LENT[figure])
    inputs = [_value(snap, account, leg, protocol) for leg in legs]
    if figure == "health_factor" or protocol in MARGINED:
        inputs += [*_own(snap, account), *_terms(snap, account, protocol)]
    if protocol in MARGINED and figure != "health_factor" and (price := usd(snap, judgement.unit)):
        one, path = price
        inputs.append(constant(f"USD per {unit}", plain(one.raw, one.exp), f"what the market counts in, by {path}"))
    value = health_text(judgement) if figure == "health_factor" else shown
    return [place | node(figure, value, *formula_of(protocol, figure, unit), inputs)]


def _value(snap: Snapshot, account: Account, leg: Leg, protocol: str) -> Node:
    """One leg: dollars = amount x price, amount = shares x index; what weighs it beside it where it counts."""
    name, market = symbol(snap, leg.asset), account.market
    value, option = leg_usd(snap, leg, account), option_of(snap, leg, account)
    inputs = [_amount(snap, market, leg, protocol), *_judged_by(snap, account, leg, protocol)]
    inputs += _bought(snap, market, leg, option)
    if value:
        inputs += _marked(snap, account, leg) or known_nodes(dollars(snap, option.quote if option else leg.asset))
    known = plain(leg.amount, leg.decimals) if leg.decimals >= 0 else f"raw {leg.amount}, decimals unknown,"
    if not leg.counted:
        known = f"{leg.shares} shares, of unknown amount, of"
    shown = f"{known} {name}" + (f" (USD {value})" if value else "")
    formula = ("size x Black-Scholes price at spot, strike, time left, iv and rate x USD per quote", "float64")
    if option and _settlement(snap, option):
        formula = ("size x what the settled board pays, no short more than its collateral, x USD per quote", "float64")
    if option is None:
        formula = ("amount x USD per whole one", "down to 8 places") if value else ("amount, of no known price", "none")
    return node(f"{name} {leg.side}", shown, *formula, inputs)


def _marked(snap: Snapshot, account: Account, leg: Leg) -> list[Node]:
    """The dollars of one whole perpetual: its market's own price times those of what the market counts in."""
    token, value = settlement(snap, account.market), mark_usd(snap, account.market, leg.asset)
    own = own_price(snap, account.market, leg.asset)
    if "open_notional" not in leg.terms or own is None or not (token and value):
        return []
    parts = [price_leaf(snap, own), *known_nodes(dollars(snap, token))]
    shown = plain(value.raw, value.exp)
    return [node(f"USD per {symbol(snap, leg.asset)}", shown, "price x USD per quote", "none", parts)]


def _judged_by(snap: Snapshot, account: Account, leg: Leg, protocol: str) -> list[Node]:
    """The market's price of the leg and what weighs it as collateral: its e-mode's where those count."""
    market, rule, scope, keys = account.market, rules.get(account.rule), "", list[str]()
    own = own_price(snap, market, leg.asset)
    prices = [own] if own else []
    with suppress(CannotJudgeError):
        if isinstance(rule, AaveV3) and rule.in_emode(account, leg):
            scope = f"emode:{account.own['emode']}"
            if rule.priced_by_emode(account, leg):
                prices, keys = [], ["price"]
    if leg.side == "collateral" and protocol in THRESHOLDS:
        keys.append(THRESHOLDS[protocol])
    terms = snap.rows("term", market=market)
    told = [t for key in keys for t in terms if (t.key, t.scope) == (key, scope) and t.asset in (leg.asset, "")]
    if scope and keys:  # why the e-mode's count: the reserve's own category, or its bit in the category's map
        why = {("emode_category", leg.asset, ""), ("reserve_id", leg.asset, ""), ("collateral_bitmap", "", scope)}
        told += [t for t in terms if (t.key, t.asset, t.scope) in why]
    return [
        *(price_leaf(snap, p) for p in prices),
        *(leaf(snap, f"{t.scope} {t.key}".strip(), t.raw, t.src, market) for t in told),
    ]


def _amount(snap: Snapshot, market: str, leg: Leg, protocol: str) -> Node:
    signed = leg.terms.get("size", leg.shares)  # a perpetual's size as its contract answers: negative where short
    shares = leaf(snap, "shares", signed, leg.src, market)
    index = next(iter(snap.rows("index", market=market, asset=leg.asset, side=leg.side)), None)
    if index is None or (index.num, index.den) == (1, 1):
        return shares
    num = leaf(snap, "index numerator", index.num, index.src, market)
    den = constant("index denominator", index.den, ACCRUED_DEN.get(protocol, CONSTANT))
    name = f"{symbol(snap, leg.asset)} {leg.side} amount"
    return node(name, leg.amount, "shares x numerator / denominator", index.rounding, [shares, num, den])


def _settlement(snap: Snapshot, option: OptionLeg) -> list[Term]:
    """What a settled board pays by; none before."""
    series = snap.rows("term", market=option.market, scope=f"series:{option.expiry_s}:{option.strike}")
    return [t for t in series if t.key in ("price_at_expiry", "base_returned_ratio", "long_scale_factor")]


def _bought(snap: Snapshot, market: str, leg: Leg, option: OptionLeg | None) -> list[Node]:
    """What an option's or a perpetual's worth reads besides size and price."""
    if option:
        given, scope = "of the series that strike_id names", f"series:{option.expiry_s}:{option.strike}"
        terms = _settlement(snap, option) or [
            *snap.rows("term", market=market, scope=scope, key="iv"),
            *snap.rows("term", market=market, asset="", scope="", key="rate_and_carry"),
        ]
        return [
            constant(f"strike x 10^{option.exp}", option.strike, given),
            constant("expiry, unix seconds", option.expiry_s, given),
            *(leaf(snap, t.key, t.raw, t.src, market) for t in terms),
        ]
    if "open_notional" in leg.terms:
        call = "getTotalOpenNotional(trader, base token) of the contract that answers the size"
        return [constant("open notional", leg.terms["open_notional"], call)]
    return []


def _own(snap: Snapshot, account: Account) -> list[Node]:
    """Terms of the account, and of its positions where each is judged alone."""
    refs = {"", *(leg.ref for leg in account.legs), *(leg.asset for leg in account.legs)}
    rows = [r for r in snap.rows("account_term", market=account.market, holder=account.holder) if r.ref in refs]
    return [
        leaf(snap, f"account {r.key} {symbol(snap, r.ref) if r.ref else ''}".strip(), r.raw, r.src, account.market)
        for r in rows
    ]


def _terms(snap: Snapshot, account: Account, protocol: str) -> list[Node]:
    rows = {t.key: t for t in snap.rows("term", market=account.market, asset="", scope="")}
    found = (rows[key] for key in MARGINED.get(protocol, ()) if key in rows)
    return [leaf(snap, t.key, t.raw, t.src, account.market) for t in found]

"""Where one wallet stands at one cut, on every chain: the JSON of `spillover wallet` and `/v1/wallets/{address}`.

Exact lane: amounts, collateral, debt and health factor are the contract's own integers (`aggregator.rules`), printed
as decimal strings. A leg's dollar value uses the selection of `aggregator.snapshot.prices`; an unknown price leaves it
null and adds a gap: it is never zero.

Liquidation prices hold all else fixed. Health times debt is affine in the price of one asset, W(p) = W0 + a (p - p0),
and so is debt, D(p) = D0 + b (p - p0); they meet at p = p0 + (D0 - W0) / (a - b), but for what the contract rounds:
from there the rule is asked for the last price, in the oracle's own unit, at which the account may be liquidated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import partial
from typing import Any

from aggregator import rules
from aggregator.core.account import Account, Judgement, Leg
from aggregator.core.fixed import WAD, Fixed, plain
from aggregator.core.ids import USD, chain_or_source
from aggregator.core.rows import Claim, Gap, OptionLeg
from aggregator.report.coverage import coverage_json
from aggregator.report.greeks import leg_greeks, wallet_greeks
from aggregator.report.plain import cut_json, gap_json, split_deployment
from aggregator.rules.base import CannotJudgeError, Rule
from aggregator.snapshot import Snapshot, accounts, prices
from aggregator.snapshot.derivatives import CASH, mark_usd, settlement

USD_PLACES = 8
SEPARATE = ("lyra_v1", "")  # rules that judge every position of a holder on its own


def wallet(snap: Snapshot, address: str, now_s: int) -> dict[str, Any]:
    """address as stored (lower case). now_s: the caller's clock, for `age_s` alone."""
    positions: list[dict[str, Any]] = []
    gaps: list[Gap] = []
    for account in wallet_accounts(snap, address):
        position, found = _position(snap, account)
        positions.append(position)
        gaps += found
    greeks, unvalued = wallet_greeks(snap, address)
    sources = {account_source for p in positions for account_source in (p["market"], snap.deployment_of(p["market"]))}
    sources |= _stands_on(snap, {leg["asset"] for p in positions for leg in p["legs"]})
    about = [g for g in snap.gaps if g.subject in sources or g.subject.endswith(f"#{address}")]
    whole_sources = [g for g in snap.gaps if g.reason in ("source_failed", "adapter_failed", "unlisted_accounts")]
    return {
        "address": address,
        "cut": cut_json(snap.cut),
        "age_s": now_s - snap.cut.time_s,
        "coverage": coverage_json(snap),
        "positions": positions,
        "totals": {
            "collateral_usd": _total(positions, "collateral_usd"),
            "debt_usd": _total(positions, "debt_usd"),
            "positions": len(positions),
            "unpriced": sum(map(_unpriced, positions)),
        },
        "greeks": greeks,
        "gaps": [gap_json(g) for g in dict.fromkeys([*gaps, *unvalued, *about, *whole_sources])],
    }


def _stands_on(snap: Snapshot, assets: set[str]) -> set[str]:
    """These assets and all that their worth is read from: what they are claims on, and what their prices are in."""
    seen, pending = set[str](), assets
    while pending:
        seen |= pending
        rows = [row for asset in pending for kind in ("claim", "price") for row in snap.rows(kind, asset=asset)]
        pending = {row.underlying if isinstance(row, Claim) else row.quote for row in rows} - seen
    return seen


def wallet_accounts(snap: Snapshot, address: str) -> Iterator[Account]:
    """Everything judged as one: an account per market, or one per position where the rule keeps them apart.

    A trader without a position who owes a venue, or is owed by it, has an account there without legs.
    """
    rows = [row for kind in ("exposure", "perp", "option") for row in snap.rows(kind, holder=address)]
    rows += [term for term in snap.rows("account_term", holder=address) if term.key in CASH]
    for market in sorted({row.market for row in rows}):
        account = accounts.account(snap, market, address)
        if account.rule.split("@")[0] not in SEPARATE:
            yield account
            continue
        for ref in sorted({leg.ref for leg in account.legs}):
            yield account._replace(legs=tuple(leg for leg in account.legs if leg.ref == ref))


def judge(snap: Snapshot, account: Account) -> tuple[Judgement | None, Rule | None, Gap | None]:
    """The rule's word, or a Gap that says why there is none; neither where nobody is judged (pools, vaults)."""
    if not account.rule:
        return None, None, None
    subject = f"{account.market}#{account.holder}"
    rule = rules.get(account.rule)
    if rule is None:
        return None, None, Gap(subject, "unknown_version", f"no rule {account.rule}", 1)
    if hidden := [gap for gap in snap.rows("gap", subject=subject) if gap.accounts]:
        return None, rule, hidden[0]  # part of an account is not an account
    if unknown := [leg for leg in account.legs if leg.side != "supply" and not leg.counted]:
        return None, rule, _uncounted(subject, unknown[0])
    try:
        judgement = rule.judge(account)
        unit = judgement.unit or settlement(snap, account.market) or _quote(snap, account.market)
        return judgement._replace(unit=unit), rule, None
    except CannotJudgeError as error:
        return None, rule, Gap(subject, "no_price", error.message, 1)


def _uncounted(subject: str, leg: Leg) -> Gap:
    return Gap(subject, "unread", f"no index says how much {leg.shares} shares of {leg.asset} are", 1)


def _quote(snap: Snapshot, market: str) -> str:
    """What a market quotes its prices in, where that is one asset: the unit of rules that know no asset ids."""
    quotes = {price.quote for price in snap.rows("price", market=market)}
    return quotes.pop() if len(quotes) == 1 else ""


def _quote_of(snap: Snapshot, market: str, asset: str, price: Fixed) -> str:
    """What the price that an account is judged by is counted in: USD, or the loan asset of a pair."""
    rows = snap.rows("price", market=market, asset=asset)
    return next((p.quote for p in rows if (p.raw, p.exp) == (price.raw, price.exp)), "")


def unit_usd(snap: Snapshot, judgement: Judgement, amount: int) -> str | None:
    """An amount in the judgement's unit -> decimal string of dollars, None without a price of the unit."""
    if amount == 0:
        return plain(0, USD_PLACES)
    if judgement.unit == USD:
        return plain(amount, judgement.exp)
    price = prices.usd(snap, judgement.unit)
    return None if price is None else _usd(amount, judgement.exp, price[0])


def _position(snap: Snapshot, account: Account) -> tuple[dict[str, Any], list[Gap]]:
    judgement, rule, gap = judge(snap, account)
    gaps = [gap] if gap else []
    legs = []
    for leg in account.legs:
        value = leg_usd(snap, leg, account)
        if value is None and leg.amount:
            subject = f"{account.market}#{account.holder}"
            blank = Gap(subject, "no_price", f"no dollar price for {leg.asset}", 1)
            gaps.append(blank if leg.counted else _uncounted(subject, leg))
        legs.append(_leg(snap, leg, value))
    protocol, name = split_deployment(account.market)
    kinds = snap.rows("market", market=account.market)
    position = {
        "chain": chain_or_source(account.market),
        "protocol": protocol,
        "deployment": name,
        "market": account.market,
        "kind": kinds[0].kind if kinds else "unknown",
        "ref": account.legs[0].ref if account.legs else "",
        "rule": account.rule,
        "legs": legs,
        "collateral_usd": unit_usd(snap, judgement, judgement.collateral) if judgement else None,
        "debt_usd": unit_usd(snap, judgement, judgement.owed) if judgement else None,
        "requirement_usd": unit_usd(snap, judgement, judgement.required) if judgement else None,
        "health_factor": health_text(judgement),
        "liquidation": {
            "liquidatable": judgement.liquidatable if judgement else None,
            "prices": _liquidation_prices(snap, account, rule, judgement) if rule and judgement else [],
        },
    }
    return position, gaps


def health_text(judgement: Judgement | None) -> str | None:
    if judgement is None or judgement.health_factor is None:
        return None
    return plain(judgement.health_factor, 18)


def option_of(snap: Snapshot, leg: Leg, account: Account) -> OptionLeg | None:
    """The option that this leg is, None for every other kind of leg."""
    if leg.side not in ("long", "short"):
        return None
    rows = snap.rows("option", market=account.market, holder=account.holder, ref=leg.ref)
    return next((row for row in rows if row.underlying == leg.asset), None)


def leg_usd(snap: Snapshot, leg: Leg, account: Account) -> str | None:
    """Dollars of a leg: an option's worth (negative where short), a perp's notional, amount x price of all else.

    A notional at the market's own price is in what the market counts in, as its account is.
    """
    if option := option_of(snap, leg, account):
        greeks, quote = leg_greeks(snap, option), prices.usd(snap, option.quote)
        if isinstance(greeks, Gap) or quote is None:
            return None
        return f"{greeks['value'] * float(quote[0]):.{USD_PLACES}f}"
    if "open_notional" in leg.terms:
        price = mark_usd(snap, account.market, leg.asset)
    else:
        price = found[0] if (found := prices.usd(snap, leg.asset)) else None
    return None if price is None or leg.decimals < 0 or not leg.counted else _usd(leg.amount, leg.decimals, price)


def _leg(snap: Snapshot, leg: Leg, value: str | None) -> dict[str, Any]:
    """amount is null where nobody knows the decimals; raw too where nobody knows what a share is."""
    asset = snap.assets.get(leg.asset)
    return {
        "asset": leg.asset,
        "symbol": asset.symbol if asset else "",
        "side": leg.side,
        "raw": str(leg.amount) if leg.counted else None,
        "amount": plain(leg.amount, leg.decimals) if leg.counted and leg.decimals >= 0 else None,
        "value_usd": value,
    }


def _liquidation_prices(snap: Snapshot, account: Account, rule: Rule, now: Judgement) -> list[dict[str, Any]]:
    """One entry per asset whose price alone can bring the account to its threshold; as the market quotes it.

    None for options: what their margin needs is no straight line in the price.
    """
    if now.health_factor is None or account.rule.split("@")[0] == "lyra_v1":
        return []
    found = []
    for asset in sorted({leg.asset for leg in account.legs}):
        first = next(leg for leg in account.legs if leg.asset == asset)
        if first.price is None or first.price.raw <= 0:  # a move is relative: there is none from zero
            continue
        judged = partial(_judged_at, rule, account, asset, first.price.exp)
        try:
            then = judged(2 * first.price.raw)
        except CannotJudgeError:
            continue
        weighted, debt = _weighted(now), Fraction(now.debt)
        slope = (_weighted(then) - weighted) - (then.debt - debt)  # per one p0
        if then.health_factor is None or slope == 0:
            continue
        move = (debt - weighted) / slope
        if move <= -1:
            continue
        at = _edge(judged, max(round(first.price.raw * (1 + move)), 1))
        if at is None:
            continue
        symbol = snap.assets[asset].symbol if asset in snap.assets else ""
        found.append(
            {
                "asset": asset,
                "symbol": symbol,
                "price": plain(at, first.price.exp),
                "quote": _quote_of(snap, account.market, asset, first.price) or now.unit,
                "move_frac": f"{float(Fraction(at, first.price.raw) - 1):.6f}",
            }
        )
    return found


def _judged_at(rule: Rule, account: Account, asset: str, exp: int, raw: int) -> Judgement:
    price = Fixed(raw, exp)
    legs = (leg._replace(price=price) if leg.asset == asset else leg for leg in account.legs)
    return rule.judge(account._replace(legs=tuple(legs)))


def _edge(judged: Callable[[int], Judgement], near: int) -> int | None:
    """The raw price by `near` at which the account may be liquidated and one unit on may not; None without one."""
    low = high = near
    width = 1
    while judged(low).liquidatable == judged(high).liquidatable:
        if low == 1 and high > 8 * near:
            return None
        low, high, width = max(near - width, 1), near + width, 2 * width
    below = judged(low).liquidatable
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if judged(middle).liquidatable == below else (low, middle)
    return low if below else high


def _weighted(judgement: Judgement) -> Fraction:
    return Fraction((judgement.health_factor or 0) * judgement.debt, WAD)


def _usd(amount: int, decimals: int, price: Fixed) -> str:
    raw, exp = amount * price.raw, decimals + price.exp
    return plain(raw * 10 ** (USD_PLACES - exp) if exp <= USD_PLACES else raw // 10 ** (exp - USD_PLACES), USD_PLACES)


def _total(positions: list[dict[str, Any]], key: str) -> str | None:
    """Exact sum of what is known, None where a rule judges and nothing is; unknown ones are counted in `unpriced`."""
    known = [Fraction(p[key]) for p in positions if p[key] is not None]
    if not known and any(p["rule"] for p in positions):
        return None
    total = sum(known, Fraction(0))
    return plain(total.numerator * 10**USD_PLACES // total.denominator, USD_PLACES)


def _unpriced(position: dict[str, Any]) -> bool:
    """Something of it has no dollar price, or its rule cannot judge it; pools and vaults judge nobody."""
    unjudged = bool(position["rule"]) and position["collateral_usd"] is None
    return unjudged or any(leg["value_usd"] is None and leg["raw"] != "0" for leg in position["legs"])

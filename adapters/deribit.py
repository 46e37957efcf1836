"""Deribit: the option surface, futures, open interest and indices of each currency. Its accounts are private: a Gap.

One market of kind surface per currency. Terms have the instrument's name as scope, its base coin as asset, 18 places
(cut): `mark_price bid ask` in the instrument's own unit (options where `coin_settled` is 1: the coin, and beside it
`mark_price_usd`), `underlying_price`, `iv` as a decimal (the venue writes percent), `interest_rate`; `open_interest` in
coin, of coin-settled futures in USD. Times are seconds (the venue writes milliseconds). An instrument past its expiry
is labelled `expired` and has nothing else. Crossed quotes, and what is no number or out of range, are Gaps.
Source: docs.deribit.com, JSON-RPC over HTTP v2 (an error may come with any HTTP status).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple
from urllib.parse import urlencode

from aggregator.core.errors import MalformedAnswerError, shown
from aggregator.core.fixed import WAD, plain
from aggregator.core.ids import USD
from aggregator.core.rows import Asset, Gap, Market, Price, Row, Term
from aggregator.core.source import http_source
from aggregator.sdk.adapter import Adapter, View, Where

PLACES, LIMIT = 18, 10**30
DRIFT_S = 600  # a run reads for minutes at most; what is further from the cut comes out of some cache
Fields = Mapping[str, tuple[str, int | None, bool]]
# field -> term, smallest allowed raw (None: any sign), must it be there
QUOTE: Fields = {
    "open_interest": ("open_interest", 0, True),
    "mark_price": ("mark_price", 0, True),
    "bid_price": ("bid", 0, False),
    "ask_price": ("ask", 0, False),
}
QUOTES: dict[str, Fields] = {
    "option": {
        **QUOTE,
        "mark_iv": ("iv", 1, True),
        "underlying_price": ("underlying_price", 1, True),
        "interest_rate": ("interest_rate", None, False),
    },
    "future": {**QUOTE, "current_funding": ("current_funding", None, False), "funding_8h": ("funding_8h", None, False)},
}


# what a listing must say of an instrument, as text
_ANY = ("base_currency", "settlement_currency", "price_index")
NAMED = {"option": (*_ANY, "option_type"), "future": _ANY}


class Page(NamedTuple):
    """The objects of one answer, and where it came from."""

    path: str
    result: Sequence[Mapping[str, Any]]
    time_s: int


class Deribit(Adapter):
    name = "deribit"
    kind = "venue"
    options = ("currencies",)
    required = (("currencies",),)

    async def terms(self, view: View, where: Where) -> AsyncIterator[Row]:
        named = set[str]()
        for currency in _currencies(where):
            market, indices = where.market_id(currency), dict[str, str]()
            size, count, whole = 0, 0, True
            yield Market(market, "surface", "", f"Deribit {currency}")
            for kind, fields in QUOTES.items():
                listed = await _ask(view, market, "get_instruments", currency=currency, kind=kind, expired="false")
                quoted = await _ask(view, market, "get_book_summary_by_currency", currency=currency, kind=kind)
                if isinstance(listed, Gap) or isinstance(quoted, Gap):
                    whole = False
                    for refused in (listed, quoted):
                        if isinstance(refused, Gap):
                            yield refused
                    continue
                known = {str(one.get("instrument_name")): one for one in listed.result}
                if quoted.time_s and abs(late_s := view.at.time_s - quoted.time_s) > DRIFT_S:
                    when = f"{abs(late_s)} s {'before' if late_s > 0 else 'after'} the cut"
                    yield Gap(market, "stale_price", f"{kind}s were quoted {when}", src=http_source(quoted.path))
                unseen = {name for name, one in known.items() if not _expired(one, view.at.time_s)}
                seen = set[str]()
                for place, quote in enumerate(quoted.result):
                    name, src = str(quote.get("instrument_name")), http_source(f"{quoted.path}#/result/{place}")
                    if name not in known:
                        yield Gap(market, "unread", f"{name} is quoted and not listed", src=src)
                        continue
                    if name in seen:
                        yield Gap(market, "unread", f"{name} is quoted twice: the first counts", src=src)
                        continue
                    seen.add(name)
                    if lacks := [key for key in NAMED[kind] if not isinstance(known[name].get(key), str)]:
                        yield Gap(market, "unread", f"{name} is listed without {', '.join(lacks)}", src=src)
                        whole = False
                        continue
                    coin = known[name]["base_currency"]
                    blank = Term(market, f"{where.source}/{coin}", name, "", 0, PLACES, src)
                    if coin not in named:
                        named.add(coin)
                        yield Asset(blank.asset, coin, PLACES)  # the places that these rows have
                    indices.setdefault(coin, known[name]["price_index"])
                    rows = list(_instrument(blank, kind, fields, known[name], quote, view.at.time_s))
                    for row in rows:
                        yield row
                    worth = _size_usd(kind, {row.key: row.raw for row in rows if isinstance(row, Term)})
                    size, count = size + worth, count + (worth > 0)
                if unseen := unseen - seen:
                    whole = False
                    detail = f"{len(unseen)} {kind}s are listed and not quoted, {min(unseen)} among them"
                    yield Gap(market, "unread", detail, src=http_source(quoted.path))
            for coin, index in indices.items():
                yield await _index(view, market, f"{where.source}/{coin}", index)
            detail = f"who holds the open interest of {count} instruments is not public"
            value_usd = plain(size // 10 ** (PLACES - 2), 2) if whole else ""
            yield Gap(market, "aggregate_only", detail, value_usd=value_usd)


ADAPTER = Deribit()


def _currencies(where: Where) -> list[str]:
    listed = where.options.get("currencies", ())
    if not listed or isinstance(listed, str):
        raise where.misconfigured("lists no currencies", 'currencies = ["BTC", "ETH"]', repr(listed))
    return sorted({str(one).upper() for one in listed})


async def _ask(view: View, market: str, method: str, **params: str) -> Page | Gap:
    """An answer's objects; a Gap where the venue refuses. MalformedAnswerError for what is no answer of its."""
    path = f"GET /public/{method}?{urlencode(sorted(params.items()))}"
    answer = await view.get(f"public/{method}", params)
    body: Mapping[str, Any] = answer if isinstance(answer, Mapping) else {}
    if isinstance(error := body.get("error"), Mapping):
        refusal = f"{path}: {error.get('code')} {error.get('message')}"
        return Gap(market, "source_failed", refusal, src=http_source(path))
    result, sent_us = body.get("result"), body.get("usOut")
    objects: list[Any] = result if isinstance(result, list) else [result]
    if not all(isinstance(one, Mapping) for one in objects):
        raise MalformedAnswerError(
            f"{path} is not answered as Deribit would",
            expected="an object with a result of objects",
            found=shown(answer),
            fix="check the url of the venue in the configuration",
        )
    return Page(path, objects, sent_us // 1_000_000 if isinstance(sent_us, int) else 0)


def _raw(value: object) -> int | None:
    """A JSON number at 18 places, cut; None for what is none or beyond any price."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return None
    return int(Decimal(value).scaleb(PLACES)) if -LIMIT < value < LIMIT else None


def _expired(listed: Mapping[str, Any], time_s: int) -> bool:
    expiry_ms = listed.get("expiration_timestamp")
    return isinstance(expiry_ms, int) and expiry_ms <= time_s * 1000


def _instrument(
    blank: Term, kind: str, fields: Fields, listed: Mapping[str, Any], quote: Mapping[str, Any], time_s: int
) -> Iterator[Term | Gap]:
    def bad(what: str) -> Gap:
        return Gap(blank.market, "bad_price", f"{blank.scope}: {what}", src=blank.src)

    expiry_ms, strike = listed.get("expiration_timestamp"), _raw(listed.get("strike"))
    right = listed.get("option_type")
    if kind == "option" and right not in ("call", "put"):
        yield bad(f"option_type is {right}")
        return
    if not isinstance(expiry_ms, int) or (kind == "option" and (not strike or strike < 0)):
        yield bad(f"expiration_timestamp is {expiry_ms}, strike is {listed.get('strike')}")
        return
    yield blank._replace(key="expiry_s", raw=expiry_ms // 1000, exp=0)
    if _expired(listed, time_s):
        yield blank._replace(key="expired", raw=1, exp=0)
        return
    coin_settled = listed.get("settlement_currency") == listed.get("base_currency")
    yield blank._replace(key="coin_settled", raw=int(coin_settled), exp=0)
    if kind == "option" and strike:
        yield blank._replace(key="strike", raw=strike)
        yield blank._replace(key="is_call", raw=int(right == "call"), exp=0)
    found = dict[str, int]()
    for field, (key, least, required) in fields.items():
        raw, value = _raw(quote.get(field)), quote.get(field)
        if raw is None and value is None and not required:
            continue  # nobody quotes
        if raw is None or (least is not None and raw < least):
            yield bad(f"{field} is {value}")
        else:
            found[key] = raw // 100 if key == "iv" else raw
    if found.get("bid", 0) > found.get("ask", found.get("bid", 0)) > 0:
        yield bad(f"crossed, bid {quote['bid_price']} above ask {quote['ask_price']}")
        del found["bid"], found["ask"]
    if kind == "option" and coin_settled and {"mark_price", "underlying_price"} <= found.keys():
        found["mark_price_usd"] = found["mark_price"] * found["underlying_price"] // WAD
    for key, raw in found.items():
        yield blank._replace(key=key, raw=raw)


def _size_usd(kind: str, terms: Mapping[str, int]) -> int:
    """Open interest in USD at 18 places, stablecoins taken for dollars; 0 where it cannot be told (a Gap says so)."""
    amount = terms.get("open_interest", 0)
    if kind == "future" and terms.get("coin_settled"):
        return amount
    return amount * terms.get("underlying_price" if kind == "option" else "mark_price", 0) // WAD


async def _index(view: View, market: str, coin: str, index: str) -> Price | Gap:
    page = await _ask(view, market, "get_index_price", index_name=index)
    if isinstance(page, Gap):
        return page
    stated, quote = page.result[0].get("index_price") if page.result else None, index.rpartition("_")[2]
    if not (raw := _raw(stated)) or raw < 0:
        return Gap(coin, "no_price", f"index {index} is {stated}", src=http_source(page.path))
    src = http_source(f"{page.path}#/result/index_price")
    unit = USD if quote == "usd" else f"{coin.rpartition('/')[0]}/{quote.upper()}"
    return Price(market, coin, unit, raw, PLACES, "index", page.time_s, 0, src)

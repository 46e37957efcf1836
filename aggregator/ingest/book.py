"""Import: a folder of CSV or Parquet files becomes a cut of its own, named by the digest of the files.

`docs/import.md` is the format; `TABLES` below is its source. Amounts, prices and factors are exact decimal strings.
Every row is used or refused with its file, line and reason; none is dropped, and no cell that says something is
passed over. All ids are the book's own, so that a name in it touches nothing that was read elsewhere.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from aggregator.core.block import BlockRef, Cut
from aggregator.core.errors import near_miss
from aggregator.core.fixed import I256_MAX, U256_MAX, WAD
from aggregator.core.ids import USD, deployment_id, holder_name
from aggregator.core.rows import DOLLAR, Asset, Claim, Depth, Exposure, Index, Market, PositionRow, Price, Row, Term
from aggregator.engine.book import Claims
from aggregator.engine.value import NO_ANSWER_GAIN, cycle_gain
from aggregator.ingest.tables import Line, Spec, read_folder

# of a market's own price: how it moves, and its cap, which is read on these paths alone
_OF_RATIO = ("ratio_snapshot", "ratio_snapshot_s", "ratio_growth_yr")
_OF_ORACLE = ("path", "price_cap", *_OF_RATIO)
PATHS = ("constant", "feed", "lagged", "rate", "capped")
TABLES: dict[str, Spec] = {
    "markets": Spec(("market", "rule"), ("protocol", "name", "loan_asset", "close_factor", "liquidation_incentive")),
    "collateral": Spec(("market", "asset", "liquidation_threshold"), ("ltv", "liquidation_bonus", "protocol_fee")),
    "positions": Spec(("market", "account", "asset", "side", "amount")),
    "prices": Spec(("asset", "price_usd"), ("decimals", "symbol", "market", "time_s", *_OF_ORACLE)),
    "claims": Spec(("asset", "underlying", "rate"), ("kind", "market")),
    "depth": Spec(("asset", "base_reserve", "usd_reserve"), ("fee_bps",)),
}
NEEDED = ("markets", "positions", "prices")
RULES = (*(f"aave_v3@3.{minor}" for minor in range(8)), "compound_v2@1", "morpho_blue@1")
SIDES = ("supply", "collateral", "debt")
CLAIM_KINDS = ("vault", "receipt", "lst", "bridge")
# optional cells by the mechanisms that read them; elsewhere they must be empty
_OF_MARKET = {"loan_asset": "morpho_blue", "close_factor": "compound_v2", "liquidation_incentive": "compound_v2"}
_OF_COLLATERAL = {"ltv": "aave_v3", "liquidation_bonus": "aave_v3", "protocol_fee": "aave_v3"}
_OURS = ("book", "depth")  # protocols of the rows that stand beside the markets
AAVE_PRICE_PLACES, PRICE_PLACES, MAX_DECIMALS = 8, 18, 36
YEAR_S = 365 * 86_400  # as the contracts count it
MAX_TIME_S = 2**33  # in the year 2242: a time in milliseconds is above it
_FRACTION = "a fraction: 0.825 is 82.5 %"
_SECONDS = "unix seconds: 1700000000 is 2023-11-14 22:13:20 UTC, and 1700000000000 is milliseconds"


class Book(NamedTuple):
    """What an import gives the store: rows by deployment."""

    cut: Cut
    assets: tuple[Asset, ...]
    cut_rows: Mapping[str, list[Row]]
    positions: Mapping[str, list[PositionRow]]


def read_book(folder: Path, time_s: int | None = None) -> Book:
    """ImportDataError names file, line, column and the nearest right one.

    time_s: when the book was true; by default the newest `time_s` of its prices, where they have none the time at
    which the newest of its tables was written.
    """
    found = read_folder(folder, TABLES, NEEDED)
    source = f"book:{found.digest[:32]}"
    return _Builder(source, found.sheets).build(found.digest, found.written_s, time_s)


class _Market(NamedTuple):
    id: str
    rule: str
    line: Line

    @property
    def mechanism(self) -> str:
        return self.rule.partition("@")[0]


class _Builder:
    def __init__(self, source: str, tables: Mapping[str, Iterable[Line]]) -> None:
        self._source, self._tables = source, tables
        self._decimals: dict[str, int] = {}  # by asset name, as all below
        self._symbols: dict[str, str] = {}
        self._prices: dict[tuple[str, str], Line] = {}  # (market name or '', asset)
        self._markets: dict[str, _Market] = {}
        self._collateral: dict[str, set[str]] = defaultdict(set)  # by market name
        self._cut: dict[str, list[Row]] = defaultdict(list)
        self._positions: dict[str, list[PositionRow]] = defaultdict(list)
        self._priced_s = 0  # the newest time of a price, 0 where none is given

    def build(self, digest: str, written_s: int, time_s: int | None) -> Book:
        self._read_prices()
        self._read_markets()
        self._read_collateral()
        self._read_positions()
        self._read_claims()
        self._read_depth()
        assets = [Asset(self._asset(name), self._symbols.get(name, name), d) for name, d in self._decimals.items()]
        at_s = (self._priced_s or written_s) if time_s is None else time_s
        cut = Cut.of([BlockRef(self._source, 0, digest, at_s, "import")])
        return Book(cut, tuple(sorted(assets)), self._cut, self._positions)

    def _asset(self, name: str) -> str:
        return f"{self._source}/asset:{name}"

    def _shared(self) -> str:
        return deployment_id(self._source, "book", "prices")

    def _known(self, line: Line, column: str, known: Collection[str], table: str = "prices") -> str:
        name = line[column]
        if name not in known:
            raise line.error(
                f"unknown {column} {name!r}",
                ", ".join(sorted(known)[:20]) or "an entry",
                repr(name),
                near_miss(name, known, f"add it to {table}"),
            )
        return name

    def _market(self, line: Line) -> _Market:
        return self._markets[self._known(line, "market", self._markets, "markets")]

    # -- what there is

    def _read_prices(self) -> None:
        for line in self._tables["prices"]:
            name, market = line["asset"], line["market"]
            if (market, name) in self._prices:
                raise line.error("a second price", "one per asset and market", name)
            self._prices[market, name] = line
            if line["decimals"]:
                decimals = line.exact("decimals", 0, high=MAX_DECIMALS)
                if self._decimals.setdefault(name, decimals) != decimals:
                    raise line.error("decimals differ", str(self._decimals[name]), line["decimals"])
            self._priced_s = max(self._priced_s, _time_s(line))
            symbol = line["symbol"]
            if symbol and self._symbols.setdefault(name, symbol) != symbol:
                raise line.error("symbols differ", self._symbols[name], symbol)
        shared = self._cut[self._shared()]
        shared.append(Market(self._shared(), "feed", "", "prices"))
        for (market, name), line in self._prices.items():
            self._decimals.setdefault(name, 18)
            _check_oracle(line, market)
            if not market:
                raw = line.exact("price_usd", PRICE_PLACES, high=I256_MAX)
                shared.append(Price("", self._asset(name), USD, raw, PRICE_PLACES, "feed", _time_s(line), 0))
            elif ("", name) not in self._prices:  # else what it sells for would be what some market believes
                raise line.error(
                    f"{name!r} has no price of its own", "a line with an empty market", f"one for {market}", "add it"
                )

    def _read_markets(self) -> None:
        for line in self._tables["markets"]:
            name, rule = line["market"], line["rule"]
            if name in self._markets:
                raise line.error("market is there twice", "once", name)
            if rule not in RULES:
                raise line.error(
                    "unknown rule", ", ".join(RULES), rule, near_miss(rule, RULES, "see docs/import.md", cutoff=0.3)
                )
            protocol = line["protocol"] or rule.partition("@")[0]
            if "/" in protocol or protocol in _OURS:
                raise line.error("this protocol cannot be", f"no '/', none of {', '.join(_OURS)}", protocol)
            market = _Market(deployment_id(self._source, protocol, name), rule, line)
            _applies(line, market, _OF_MARKET)
            self._markets[name] = market
            rows = self._cut[market.id]
            rows.append(Market(market.id, "lending", rule, line["name"] or name))
            if market.mechanism == "aave_v3":
                rows.append(Term(market.id, "", "", "base_unit_exp", AAVE_PRICE_PLACES, 0))
            elif market.mechanism == "compound_v2":
                close = line.exact("close_factor", 18, "0.5", high=WAD, fix=_FRACTION)
                incentive = line.exact("liquidation_incentive", 18, "1.08", low=WAD, high=2 * WAD, fix="1.08 gives 8 %")
                rows.append(Term(market.id, "", "", "close_factor_wad", close, 18))
                rows.append(Term(market.id, "", "", "liquidation_incentive_wad", incentive, 18))
            else:
                self._known(line, "loan_asset", self._decimals)
        for (market_name, _), line in self._prices.items():
            if market_name:
                self._market(line)

    def _read_collateral(self) -> None:
        for line in self._tables.get("collateral", ()):
            market, name = self._market(line), self._known(line, "asset", self._decimals)
            _applies(line, market, _OF_COLLATERAL)
            known = self._collateral[line["market"]]
            if name in known or (known and market.mechanism == "morpho_blue"):
                raise line.error(
                    "a second line of collateral terms", f"one per {'asset' if name in known else 'market'}", name
                )
            for key, raw, exp in _collateral_terms(line, market.mechanism, len(known)):
                self._cut[market.id].append(Term(market.id, self._asset(name), "", key, raw, exp))
            if market.mechanism == "morpho_blue":
                lltv = line.exact("liquidation_threshold", 18, high=WAD, fix=_FRACTION)
                self._cut[market.id].append(Term(market.id, "", "", "lltv_wad", lltv, 18))
            known.add(name)

    # -- who has what

    def _read_positions(self) -> None:
        sums: dict[tuple[str, str, str], int] = defaultdict(int)
        seen: set[tuple[str, str, str, str]] = set()
        ids = {name: self._asset(name) for name in self._decimals}
        for line in self._tables["positions"]:
            market, asset = self._market(line), self._known(line, "asset", self._decimals)
            name, side, account = line["market"], line["side"], line["account"]
            self._check_side(line, market, asset, side)
            holder = holder_name(account)
            if (key := (name, holder, asset, side)) in seen:
                raise line.error("position is there twice", "once", f"{account} {asset}")
            seen.add(key)
            raw = line.exact("amount", self._decimals[asset])
            self._positions[market.id].append(Exposure(market.id, holder, "", ids[asset], side, raw))
            sums[name, asset, side] += raw
        for (name, asset, side), total in sorted(sums.items()):
            market, one = self._markets[name], 1
            if market.mechanism == "morpho_blue":  # it reads its totals out of the index
                one = _fits(market.line, f"the sum of {asset} {side}", total + 10**6, U256_MAX)
            self._cut[market.id].append(Index(market.id, ids[asset], side, one, one, "down"))
        quoted = {(name, asset) for name, asset, _ in sums} | {key for key in self._prices if key[0]}
        for name, asset in sorted(quoted):
            price = self._market_price(name, asset)
            self._cut[self._markets[name].id] += [price, *self._caps(name, asset, price)]

    def _check_side(self, line: Line, market: _Market, asset: str, side: str) -> None:
        if side not in SIDES:
            raise line.error("unknown side", ", ".join(SIDES), repr(side), near_miss(side, SIDES, "see docs/import.md"))
        if side == "collateral" and asset not in self._collateral[line["market"]]:
            raise line.error(
                f"{line['market']} does not take {asset!r} as collateral",
                ", ".join(sorted(self._collateral[line["market"]])) or "collateral terms",
                asset,
                "add its liquidation threshold to collateral, or call the side supply",
            )
        if side != "collateral" and market.mechanism == "morpho_blue" and asset != market.line["loan_asset"]:
            raise line.error(f"{line['market']} lends one asset", market.line["loan_asset"], asset)

    def _price_line(self, name: str, asset: str, line: Line) -> Line:
        found = self._prices.get((name, asset)) or self._prices.get(("", asset))
        if found is None:
            raise line.error(f"prices lack {asset!r} for market {name!r}", "a line with this asset", "none")
        return found

    def _market_price(self, name: str, asset: str) -> Price:
        market = self._markets[name]
        line = self._price_line(name, asset, market.line)
        path = (line["path"] or PATHS[0]) if (name, asset) in self._prices else "feed"
        if market.mechanism != "morpho_blue":
            aave = market.mechanism == "aave_v3"
            places = AAVE_PRICE_PLACES if aave else PRICE_PLACES
            why = f"{market.rule} reads prices at {places} places: round it as its oracle does" if aave else ""
            raw = line.exact("price_usd", places, high=I256_MAX, fix=why)
            return Price(market.id, self._asset(asset), USD, raw, places, path, _time_s(line), 0)
        loan = market.line["loan_asset"]
        exp = 36 + self._decimals[loan] - self._decimals[asset]
        raw = self._in_loan(market, line, "price_usd", exp)
        return Price(market.id, self._asset(asset), self._asset(loan), raw, exp, path, _time_s(line), 0)

    def _in_loan(self, market: _Market, line: Line, column: str, exp: int) -> int:
        """A cell in dollars as whole loan assets of the market, at exp places."""
        loan = market.line["loan_asset"]
        loan_raw = self._price_line(market.line["market"], loan, market.line).exact("price_usd", PRICE_PLACES)
        if loan_raw == 0:
            raise market.line.error(f"the loan asset {loan!r} has no price to quote in", "a price above 0", "0")
        raw = line.exact(column, PRICE_PLACES) * 10**exp // loan_raw
        return _fits(line, f"{column} in the loan asset", raw, I256_MAX)

    def _caps(self, name: str, asset: str, price: Price) -> list[Term]:
        """Terms of the cap on a market's own price, where its line gives one."""
        line, market = self._prices.get((name, asset)), self._markets[name]
        if line is None:
            return []
        found: list[tuple[str, int, int]] = []
        if line["price_cap"]:
            dollars = price.quote == USD
            places = PRICE_PLACES if dollars else price.exp
            cap = line.exact("price_cap", places) if dollars else self._in_loan(market, line, "price_cap", places)
            found.append(("price_cap", cap, places))
        if line["ratio_snapshot"]:
            snapshot = line.exact("ratio_snapshot", 18, low=1, high=2**128)
            yearly = line.exact("ratio_growth_yr", 18, "0", high=100 * WAD, fix="a fraction a year: 0.0968 is 9.68 %")
            found.append(("ratio_snapshot", snapshot, 18))
            found.append(("ratio_growth_per_s", snapshot * yearly // YEAR_S, 36))
            found.append(("ratio_snapshot_s", line.exact("ratio_snapshot_s", 0, "0", high=MAX_TIME_S, fix=_SECONDS), 0))
        return [Term(market.id, self._asset(asset), "", key, raw, exp) for key, raw, exp in found]

    # -- what stands behind what

    def _read_claims(self) -> None:
        seen: dict[tuple[str, str], Line] = {}
        for line in self._tables.get("claims", ()):
            asset, under = self._known(line, "asset", self._decimals), self._known(line, "underlying", self._decimals)
            if asset == under:
                raise line.error("an asset cannot be a claim on itself", "two assets", asset)
            if (asset, under) in seen:
                raise line.error("a second claim", "one per asset and underlying", f"{asset} on {under}")
            seen[asset, under] = line
            kind = line["kind"] or CLAIM_KINDS[0]
            if kind not in CLAIM_KINDS:
                raise line.error("unknown kind", ", ".join(CLAIM_KINDS), kind, near_miss(kind, CLAIM_KINDS))
            num = _fits(line, "rate", line.exact("rate", 18, low=1) * 10 ** self._decimals[under], U256_MAX)
            backing = self._market(line).id if line["market"] else ""
            den = WAD * 10 ** self._decimals[asset]
            self._cut[self._shared()].append(Claim(self._asset(asset), self._asset(under), kind, num, den, backing))
        _refuse_cycle(seen)

    def _read_depth(self) -> None:
        seen: set[str] = set()
        for line in self._tables.get("depth", ()):
            asset = self._known(line, "asset", self._decimals)
            if asset in seen:
                raise line.error("a second pool", "one per asset", asset, "add the reserves up")
            seen.add(asset)
            pool = deployment_id(self._source, "depth", asset)
            base = line.exact("base_reserve", self._decimals[asset], low=1, high=I256_MAX)
            usd = line.exact("usd_reserve", DOLLAR.decimals, low=1, high=I256_MAX)
            self._cut[pool] += [
                Market(pool, "amm", "", f"{asset}/USD"),
                Term(pool, "", "", "fee_pips", line.exact("fee_bps", 2, "0", high=999_999), 6),
                Depth(pool, "reserve", self._asset(asset), 0, base),
                Depth(pool, "reserve", USD, 1, usd),
            ]


def _refuse_cycle(lines: Mapping[tuple[str, str], Line]) -> None:
    """Claims by (asset, underlying) whose rates lead back to as much as they began with have no value."""
    names = sorted({name for pair in lines for name in pair})
    code = {name: i for i, name in enumerate(names)}
    ends = np.array([(code[asset], code[under]) for asset, under in lines], np.int32).reshape(-1, 2)
    rate = np.array([line.exact("rate", 18) / WAD for line in lines.values()])
    gain, cycle = cycle_gain(Claims(ends[:, 0], ends[:, 1], rate, np.full(len(rate), -1, np.int32)), names)
    if gain >= NO_ANSWER_GAIN:
        closing = [line for pair, line in lines.items() if set(pair) <= set(cycle)][-1]
        raise closing.error(
            "claims stand on each other",
            "a cycle of claims whose rates together are below 1",
            f"gain {gain:.6g}: {', '.join(cycle)}",
            "take out the claim that closes the cycle",
        )


def _collateral_terms(line: Line, mechanism: str, number: int) -> list[tuple[str, int, int]]:
    """(key, raw, exp) of one collateral asset, the number-th of its market."""
    if mechanism == "compound_v2":
        return [("collateral_factor_wad", line.exact("liquidation_threshold", 18, high=WAD, fix=_FRACTION), 18)]
    if mechanism != "aave_v3":
        return []

    def bps(column: str, default: str = "") -> int:
        return line.exact(column, 4, default, high=10_000, fix=_FRACTION)

    threshold, ltv = bps("liquidation_threshold"), bps("ltv", line["liquidation_threshold"])
    if ltv > threshold:
        expected = "an ltv of at most the threshold, as PoolConfigurator.configureReserveAsCollateral asks"
        raise line.error("ltv is above liquidation_threshold", expected, f"{line['ltv']} above {threshold / 10_000}")
    return [
        ("liquidation_threshold_bps", threshold, 4),
        ("ltv_bps", ltv, 4),
        ("liquidation_bonus_bps", 10_000 + bps("liquidation_bonus", "0.05"), 4),
        ("liquidation_protocol_fee_bps", bps("protocol_fee", "0"), 4),
        ("reserve_id", number, 0),
    ]


def _time_s(line: Line) -> int:
    """When the price was true, 0 where the table does not say."""
    return line.exact("time_s", 0, low=1, high=MAX_TIME_S, fix=_SECONDS) if line["time_s"] else 0


def _applies(line: Line, market: _Market, columns: Mapping[str, str]) -> None:
    """A cell that the market's rule does not read must be empty: it would be passed over in silence."""
    for column, mechanism in columns.items():
        if line[column] and mechanism != market.mechanism:
            raise line.error(f"{market.rule} has no {column}", f"an empty cell; only {mechanism} has it", line[column])


def _check_oracle(line: Line, market: str) -> None:
    """What only a market's own price has, and a cap only on the paths that read it."""
    if given := [column for column in _OF_ORACLE if line[column] and not market]:
        raise line.error(f"{given[0]} is of a market's own price", "an empty cell, or a market", line[given[0]])
    path = line["path"] or PATHS[0]
    if path not in PATHS:
        raise line.error("unknown path", ", ".join(PATHS), path, near_miss(path, PATHS, "see docs/import.md"))
    for column in _OF_RATIO[1:]:
        if line[column] and not all(line[c] for c in _OF_RATIO):
            raise line.error(f"{column} alone says no cap", ", ".join(_OF_RATIO) + " together", line[column])
    for column, paths in (("price_cap", ("capped",)), ("ratio_snapshot", ("rate", "capped"))):
        if line[column] and (path not in paths or (line["price_cap"] and line["ratio_snapshot"])):
            raise line.error(f"{column} caps no {path} price", f"path {' or '.join(paths)}, one cap", line[column])


def _fits(line: Line, what: str, raw: int, high: int) -> int:
    if raw > high:
        raise line.error(f"{what} is too large", "what fits 256 bits in smallest units", f"{len(str(raw))} digits")
    return raw

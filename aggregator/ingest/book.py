"""Import: a folder of CSV or Parquet files becomes a cut of its own, named by the digest of the files.

`docs/import.md` is the format; `TABLES` below is its source. Amounts, prices and factors are exact decimal strings.
Every row is used or refused with its file, line and reason; none is dropped.
"""

from __future__ import annotations

import csv
import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from aggregator.core.block import BlockRef, Cut
from aggregator.core.errors import DomainError, ImportDataError, near_miss
from aggregator.core.fixed import WAD, parse_fixed
from aggregator.core.ids import USD, deployment_id
from aggregator.core.rows import SIDES, Asset, Claim, Depth, Exposure, Index, Market, PositionRow, Price, Row, Term


class Spec(NamedTuple):
    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


TABLES: dict[str, Spec] = {
    "markets": Spec(("market", "rule"), ("protocol", "name", "loan_asset", "close_factor", "liquidation_incentive")),
    "collateral": Spec(("market", "asset", "liquidation_threshold"), ("ltv", "liquidation_bonus", "protocol_fee")),
    "positions": Spec(("market", "account", "asset", "side", "amount")),
    "prices": Spec(("asset", "price_usd"), ("decimals", "symbol", "market")),
    "claims": Spec(("asset", "underlying", "rate"), ("kind", "market")),
    "depth": Spec(("asset", "base_reserve", "usd_reserve"), ("fee_bps",)),
}
NEEDED = ("markets", "positions", "prices")
KNOWN_RULES = ("aave_v3", "morpho_blue", "compound_v2")
AAVE_PRICE_PLACES, PRICE_PLACES, USD_DECIMALS = 8, 18, 8


class Line(NamedTuple):
    """One row of a file; where: 'positions.csv line 7'."""

    where: str
    cells: Mapping[str, str]

    def exact(self, column: str, places: int, default: str | None = None) -> int:
        text = self.cells.get(column, "") or (default or "")
        try:
            raw = parse_fixed(text, places, what=column)
        except DomainError as error:
            raise ImportDataError(
                f"{self.where}: {error.message}", expected=error.expected, found=error.found
            ) from error
        if raw < 0:
            raise ImportDataError(f"{self.where}: {column} is negative", expected=">= 0", found=text)
        return raw


class Book(NamedTuple):
    """What an import gives the store; deployments in sorted order."""

    cut: Cut
    assets: tuple[Asset, ...]
    cut_rows: Mapping[str, list[Row]]
    positions: Mapping[str, list[PositionRow]]


def read_book(folder: Path, time_s: int) -> Book:
    """ImportDataError names file, line, column and the nearest right one. time_s: when the book was true."""
    files = _files(folder)
    digest = hashlib.sha256()
    for name in sorted(files):
        digest.update(name.encode() + b"\0" + hashlib.sha256(files[name].read_bytes()).digest())
    source = f"book:{digest.hexdigest()[:32]}"
    tables = {name: list(_lines(name, file)) for name, file in sorted(files.items())}
    cut = Cut.of([BlockRef(source, 0, digest.hexdigest(), time_s, "import")])
    return _Builder(source, tables).build(cut)


def _files(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise ImportDataError("not a folder", expected="a folder of CSV or Parquet files", found=str(folder))
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if file.suffix not in (".csv", ".parquet"):
            continue
        if file.stem not in TABLES:
            raise ImportDataError(
                f"{file.name} is no table of a book",
                expected=", ".join(TABLES),
                found=file.stem,
                fix=near_miss(file.stem, TABLES, "remove it"),
            )
        if file.stem in found:
            raise ImportDataError(f"{file.stem} is there twice", expected="CSV or Parquet", found="both")
        found[file.stem] = file
    if missing := [n for n in NEEDED if n not in found]:
        raise ImportDataError(
            "a book lacks a table",
            expected=", ".join(f"{n}.csv" for n in missing),
            found=", ".join(sorted(found)) or "none",
        )
    return found


def _lines(name: str, file: Path) -> Iterator[Line]:
    header, rows = _parquet(file) if file.suffix == ".parquet" else _csv(file)
    spec = TABLES[name]
    allowed = spec.required + spec.optional
    for column in header:
        if column not in allowed:
            free = [a for a in allowed if a not in header] or allowed
            raise ImportDataError(
                f"{file.name} has an unknown column {column!r}",
                expected=", ".join(allowed),
                found=column,
                fix=near_miss(column, free, "remove it", cutoff=0.4),
            )
    if missing := [c for c in spec.required if c not in header]:
        raise ImportDataError(f"{file.name} lacks a column", expected=", ".join(missing), found=", ".join(header))
    for number, cells in rows:
        line = Line(f"{file.name} line {number}", dict(zip(header, cells, strict=True)))
        for column in spec.required:
            if line.cells[column] == "":
                raise ImportDataError(f"{line.where}: {column} is empty", expected="a value", found="nothing")
        yield line


def _csv(file: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ImportDataError(f"{file.name} is not UTF-8", expected="UTF-8 text", found=str(error)) from error
    rows = list(csv.reader(text.splitlines()))
    if not rows:
        raise ImportDataError(f"{file.name} is empty", expected="a header line", found="nothing")
    header = [c.strip() for c in rows[0]]
    if len(set(header)) != len(header):
        raise ImportDataError(f"{file.name} repeats a column", expected="each once", found=", ".join(header))

    def body() -> Iterator[tuple[int, list[str]]]:
        for number, row in enumerate(rows[1:], 2):
            if len(row) != len(header):
                raise ImportDataError(
                    f"{file.name} line {number} has the wrong number of cells",
                    expected=str(len(header)),
                    found=str(len(row)),
                )
            yield number, [c.strip() for c in row]

    return header, body()


def _parquet(file: Path) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file)
    except (pa.ArrowInvalid, OSError) as error:
        raise ImportDataError(f"{file.name} is not Parquet", expected="a Parquet file", found=str(error)) from error
    for field in table.schema:
        if pa.types.is_floating(field.type):
            raise ImportDataError(
                f"{file.name}: column {field.name!r} holds floats",
                expected="decimal strings, decimals or integers",
                found=str(field.type),
                fix="write the column as strings: a float is not the amount it came from",
            )
    columns = [["" if v is None else str(v) for v in c.to_pylist()] for c in table.columns]
    return list(table.column_names), ((n, list(r)) for n, r in enumerate(zip(*columns, strict=True), 1))


class _Builder:
    def __init__(self, source: str, tables: Mapping[str, Sequence[Line]]) -> None:
        self._source, self._tables = source, tables
        self._decimals: dict[str, int] = {}
        self._symbols: dict[str, str] = {}
        self._prices: dict[tuple[str, str], Line] = {}  # (market name or '', asset name)
        self._markets: dict[str, tuple[str, str, Line]] = {}  # name -> (market id, rule, line)
        self._cut: dict[str, list[Row]] = defaultdict(list)
        self._positions: dict[str, list[PositionRow]] = defaultdict(list)

    def build(self, cut: Cut) -> Book:
        self._read_prices()
        self._read_markets()
        self._read_collateral()
        self._read_positions()
        self._read_claims()
        self._read_depth()
        assets = [Asset(self._asset(n), self._symbols[n], d) for n, d in sorted(self._decimals.items())]
        return Book(cut, (*assets, Asset(USD, "USD", USD_DECIMALS)), self._cut, self._positions)

    def _asset(self, name: str) -> str:
        return name if ":" in name else f"{self._source}/asset:{name}"

    def _shared(self) -> str:
        return deployment_id(self._source, "book", "prices")

    def _known(self, line: Line, column: str, known: Mapping[str, object]) -> str:
        name = line.cells[column]
        if name not in known:
            raise ImportDataError(
                f"{line.where}: unknown {column} {name!r}",
                expected=", ".join(sorted(known)[:20]) or "an entry",
                found=name,
                fix=near_miss(name, known, f"add it to {'markets' if column == 'market' else 'prices'}"),
            )
        return name

    def _read_prices(self) -> None:
        for line in self._tables["prices"]:
            name, market = line.cells["asset"], line.cells.get("market", "")
            if (market, name) in self._prices:
                raise ImportDataError(f"{line.where}: a second price", expected="one per asset and market", found=name)
            self._prices[market, name] = line
            text = line.cells.get("decimals", "") or "18"
            if not text.isdigit() or int(text) > 36:
                raise ImportDataError(f"{line.where}: decimals out of range", expected="0 to 36", found=text)
            if self._decimals.setdefault(name, int(text)) != int(text):
                raise ImportDataError(f"{line.where}: decimals differ", expected=str(self._decimals[name]), found=text)
            self._symbols.setdefault(name, line.cells.get("symbol", "") or name)
            if not market:
                raw = line.exact("price_usd", PRICE_PLACES)
                self._cut[self._shared()].append(Price("", self._asset(name), USD, raw, PRICE_PLACES, "feed", 0, 0))
        self._cut[self._shared()].append(Market(self._shared(), "feed", "", "prices"))

    def _read_markets(self) -> None:
        for line in self._tables["markets"]:
            name, rule = line.cells["market"], line.cells["rule"]
            if name in self._markets:
                raise ImportDataError(f"{line.where}: market is there twice", expected="once", found=name)
            if rule.split("@")[0] not in KNOWN_RULES or "@" not in rule:
                raise ImportDataError(
                    f"{line.where}: unknown rule",
                    expected="aave_v3@<version>, morpho_blue@1 or compound_v2@1",
                    found=rule,
                    fix=near_miss(rule, [f"{r}@" for r in KNOWN_RULES], "see docs/import.md", cutoff=0.3),
                )
            protocol = line.cells.get("protocol", "") or rule.split("@")[0]
            market = deployment_id(self._source, protocol, name)
            self._markets[name] = (market, rule, line)
            rows = self._cut[market]
            rows.append(Market(market, "lending", rule, line.cells.get("name", "") or name))
            if rule.startswith("aave_v3"):
                rows.append(Term(market, "", "", "base_unit_exp", AAVE_PRICE_PLACES, 0))
            elif rule.startswith("compound_v2"):
                rows.append(Term(market, "", "", "close_factor_wad", line.exact("close_factor", 18, "0.5"), 18))
                incentive = line.exact("liquidation_incentive", 18, "1.08")
                rows.append(Term(market, "", "", "liquidation_incentive_wad", incentive, 18))
            else:
                self._known(line, "loan_asset", self._decimals)

    def _read_collateral(self) -> None:
        reserve_ids: dict[str, int] = defaultdict(int)
        for line in self._tables.get("collateral", []):
            name = self._known(line, "market", self._markets)
            market, rule, _ = self._markets[name]
            asset = self._asset(self._known(line, "asset", self._decimals))

            def term(key: str, raw: int, exp: int, market: str = market, asset: str = asset) -> None:
                self._cut[market].append(Term(market, asset, "", key, raw, exp))

            if rule.startswith("aave_v3"):
                term("liquidation_threshold_bps", line.exact("liquidation_threshold", 4), 4)
                term("ltv_bps", line.exact("ltv", 4, line.cells["liquidation_threshold"]), 4)
                term("liquidation_bonus_bps", 10_000 + line.exact("liquidation_bonus", 4, "0.05"), 4)
                term("liquidation_protocol_fee_bps", line.exact("protocol_fee", 4, "0"), 4)
                term("reserve_id", reserve_ids[market], 0)
                reserve_ids[market] += 1
            elif rule.startswith("compound_v2"):
                term("collateral_factor_wad", line.exact("liquidation_threshold", 18), 18)
            else:
                lltv = line.exact("liquidation_threshold", 18)
                self._cut[market].append(Term(market, "", "", "lltv_wad", lltv, 18))
                term("collateral", 1, 0)

    def _read_positions(self) -> None:
        sums: dict[tuple[str, str, str], int] = defaultdict(int)
        seen: set[tuple[str, str, str, str]] = set()
        for line in self._tables["positions"]:
            name = self._known(line, "market", self._markets)
            asset = self._known(line, "asset", self._decimals)
            side = line.cells["side"]
            if side not in SIDES:
                raise ImportDataError(
                    f"{line.where}: unknown side",
                    expected=", ".join(SIDES),
                    found=side,
                    fix=near_miss(side, SIDES, "see docs/import.md"),
                )
            account = line.cells["account"]
            holder = account.lower() if account.lower().startswith("0x") else account
            if (name, holder, asset, side) in seen:
                raise ImportDataError(
                    f"{line.where}: position is there twice", expected="once", found=f"{account} {asset}"
                )
            seen.add((name, holder, asset, side))
            raw = line.exact("amount", self._decimals[asset])
            market = self._markets[name][0]
            self._positions[market].append(Exposure(market, holder, "", self._asset(asset), side, raw))
            sums[name, asset, side] += raw
        for (name, asset, side), total in sorted(sums.items()):
            market, rule, _ = self._markets[name]
            one = total + 10**6 if rule.startswith("morpho_blue") else 1  # Morpho reads its totals out of the index
            self._cut[market].append(Index(market, self._asset(asset), side, one, one, "down"))
        for name in self._markets:
            for asset in sorted({a for n, a, _ in sums if n == name}):
                self._cut[self._markets[name][0]].append(self._market_price(name, asset))

    def _market_price(self, name: str, asset: str) -> Price:
        market, rule, row = self._markets[name]
        line = self._prices.get((name, asset)) or self._prices.get(("", asset))
        if line is None:
            raise ImportDataError(
                f"prices lack {asset!r} for market {name!r}", expected="a line with this asset", found="none"
            )
        path = "constant" if (name, asset) in self._prices else "feed"
        if not rule.startswith("morpho_blue"):
            places = AAVE_PRICE_PLACES if rule.startswith("aave_v3") else PRICE_PLACES
            return Price(market, self._asset(asset), USD, line.exact("price_usd", places), places, path, 0, 0)
        loan = row.cells["loan_asset"]
        loan_line = self._prices.get((name, loan)) or self._prices.get(("", loan))
        if loan_line is None or (loan_raw := loan_line.exact("price_usd", PRICE_PLACES)) == 0:
            raise ImportDataError(f"prices lack the loan asset {loan!r}", expected="a positive price", found="none")
        exp = 36 + self._decimals[loan] - self._decimals[asset]
        raw = line.exact("price_usd", PRICE_PLACES) * 10**exp // loan_raw
        return Price(market, self._asset(asset), self._asset(loan), raw, exp, path, 0, 0)

    def _read_claims(self) -> None:
        for line in self._tables.get("claims", []):
            asset, under = self._known(line, "asset", self._decimals), self._known(line, "underlying", self._decimals)
            if asset == under:
                raise ImportDataError(
                    f"{line.where}: an asset cannot be a claim on itself", expected="two assets", found=asset
                )
            rate = line.exact("rate", 18)
            num, den = rate * 10 ** self._decimals[under], WAD * 10 ** self._decimals[asset]
            market = line.cells.get("market", "")
            backing = self._markets[self._known(line, "market", self._markets)][0] if market else ""
            kind = line.cells.get("kind", "") or "vault"
            self._cut[self._shared()].append(Claim(self._asset(asset), self._asset(under), kind, num, den, backing))

    def _read_depth(self) -> None:
        for line in self._tables.get("depth", []):
            asset = self._known(line, "asset", self._decimals)
            pool = deployment_id(self._source, "depth", asset)
            self._cut[pool] += [
                Market(pool, "amm", "", f"{asset}/USD"),
                Term(pool, "", "", "fee_pips", line.exact("fee_bps", 2, "0"), 6),
                Depth(pool, "reserve", self._asset(asset), 0, line.exact("base_reserve", self._decimals[asset])),
                Depth(pool, "reserve", USD, 1, line.exact("usd_reserve", USD_DECIMALS)),
            ]

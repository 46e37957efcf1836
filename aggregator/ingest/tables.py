"""A folder of CSV or Parquet files as rows of text, each with the place where it stands; nothing guessed or left out.

CSV is UTF-8 (a byte order mark is allowed) with commas, quotes as in RFC 4180 and any line ends; lines without a
character are no rows. Parquet columns are strings, decimals or integers; a null is an empty cell.
"""

from __future__ import annotations

import csv
import hashlib
import io
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from aggregator.core.errors import DomainError, ImportDataError, near_miss
from aggregator.core.fixed import U256_MAX, parse_fixed, plain

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".csv", ".parquet")
_AGAIN = "write the file again with a program that keeps to the format"
_FORMAT = "correct it; docs/import.md says what each column holds"
_CELL = 400  # characters: as part of an id it is kept whole by every database


class Spec(NamedTuple):
    """Columns of a table; a cell of a required one is never empty."""

    required: tuple[str, ...]
    optional: tuple[str, ...] = ()


class Line:
    """One row of a table: its cells by column, '' where the file has no such column."""

    __slots__ = ("_cells", "_places", "where")

    def __init__(self, where: str, places: Mapping[str, int], cells: Sequence[str]) -> None:
        self.where, self._places, self._cells = where, places, cells

    def __getitem__(self, column: str) -> str:
        place = self._places.get(column)
        return "" if place is None else self._cells[place]

    def error(self, what: str, expected: str, found: str, fix: str = "") -> ImportDataError:
        return ImportDataError(f"{self.where}: {what}", expected=expected, found=found, fix=fix or _FORMAT)

    def exact(
        self, column: str, places: int, default: str = "", *, low: int = 0, high: int = U256_MAX, fix: str = ""
    ) -> int:
        """The cell (or default, if it is empty) at `places` decimal places; ImportDataError outside low .. high."""
        text = self[column] or default
        try:
            raw = parse_fixed(text, places, what=column)
        except DomainError as error:
            raise self.error(error.message, error.expected, error.found, fix or error.fix) from error
        if raw < 0:
            raise self.error(f"{column} is negative", ">= 0", text)
        if not low <= raw <= high:
            upper = "what fits 256 bits in smallest units" if high.bit_length() > 250 else plain(high, places)
            raise self.error(f"{column} is out of range", f"{plain(low, places)} to {upper}", text, fix)
        return raw


class Sheet:
    """One file, its header checked against a Spec; iterate for its lines. ImportDataError for whatever is wrong."""

    def __init__(self, file: Path, data: bytes, spec: Spec) -> None:
        self._name, self._spec = file.name, spec
        self._kind = "line" if file.suffix.lower() == ".csv" else "row"
        self._header, self._rows = (_csv if self._kind == "line" else _parquet)(file.name, data)
        self._check_header()

    def _check_header(self) -> None:
        header, allowed = self._header, self._spec.required + self._spec.optional
        if len(set(header)) != len(header):
            raise ImportDataError(
                f"{self._name} repeats a column",
                expected="each once",
                found=", ".join(header),
                fix="rename or remove one",
            )
        for column in header:
            if column not in allowed:
                free = [a for a in allowed if a not in header] or allowed
                raise ImportDataError(
                    f"{self._name} has an unknown column {column!r}",
                    expected=", ".join(allowed),
                    found=repr(column),
                    fix=near_miss(column, free, "remove it", cutoff=0.4),
                )
        if missing := [c for c in self._spec.required if c not in header]:
            raise ImportDataError(
                f"{self._name} lacks a column", expected=", ".join(missing), found=", ".join(header), fix="add it"
            )

    def __iter__(self) -> Iterator[Line]:
        places = {column: place for place, column in enumerate(self._header)}
        needed = [places[column] for column in self._spec.required]
        for number, cells in self._rows:
            line = Line(f"{self._name} {self._kind} {number}", places, cells)
            for place in needed:
                if not cells[place]:
                    raise line.error(f"{self._header[place]} is empty", "a value", "nothing")
            if "\0" in "".join(cells) or max(map(len, cells)) > _CELL:
                bad = next(cell for cell in cells if "\0" in cell or len(cell) > _CELL)
                raise line.error(
                    "a cell cannot be kept as it is", f"at most {_CELL} characters, no NUL", repr(bad[:60])
                )
            yield line


class Folder(NamedTuple):
    """digest: sha256 over the names and bytes of the tables. written_s: when the newest of them was written."""

    digest: str
    written_s: int
    sheets: dict[str, Sheet]


def read_folder(folder: Path, specs: Mapping[str, Spec], needed: Sequence[str]) -> Folder:
    """The tables in it, and nothing else that lies beside them; ImportDataError for a folder that is no such book."""
    files = _files(folder, specs)
    if missing := [n for n in needed if n not in files]:
        raise ImportDataError(
            "a book lacks a table",
            expected=", ".join(f"{n}.csv" for n in missing),
            found=", ".join(sorted(files)) or "none",
            fix="docs/import.md has an example of each",
        )
    digest, written_s, sheets = hashlib.sha256(), 0, {}
    for name, file in sorted(files.items()):
        try:
            data = file.read_bytes()
            written_s = max(written_s, int(file.stat().st_mtime))
        except OSError as error:
            raise ImportDataError(
                f"cannot read {file.name}", expected="a readable file", found=str(error), fix="check its permissions"
            ) from error
        digest.update(name.encode() + b"\0" + hashlib.sha256(data).digest())
        sheets[name] = Sheet(file, data, specs[name])
    return Folder(digest.hexdigest(), written_s, sheets)


def _files(folder: Path, specs: Mapping[str, Spec]) -> dict[str, Path]:
    if not folder.is_dir():
        raise ImportDataError(
            "not a folder",
            expected="a folder of CSV or Parquet files",
            found=str(folder),
            fix="name the folder that holds markets, positions and prices",
        )
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        ours = file.suffix.lower() in SUFFIXES
        if file.name.startswith(".") or not (ours or file.name.split(".")[0].lower() in specs):
            continue
        if not ours or file.suffix not in SUFFIXES:
            raise ImportDataError(
                f"{file.name} would not be read",
                expected="a name ending in " + " or ".join(SUFFIXES),
                found=file.name,
                fix="save it as CSV or Parquet, or take it out of the folder",
            )
        if file.stem not in specs:
            raise ImportDataError(
                f"{file.name} is no table of a book",
                expected=", ".join(specs),
                found=file.stem,
                fix=near_miss(file.stem, specs, "remove it"),
            )
        if file.stem in found:
            raise ImportDataError(
                f"{file.stem} is there twice", expected="CSV or Parquet", found="both", fix="remove one"
            )
        found[file.stem] = file
    return found


def _csv(name: str, data: bytes) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    rows = _csv_rows(name, data)
    _, header = next(rows, (0, []))
    if not header:
        raise ImportDataError(
            f"{name} is empty", expected="a header line", found="nothing", fix="remove it, or see docs/import.md"
        )
    for other, said in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and other in header[0]:
            raise ImportDataError(
                f"{name} is separated by {said}", expected="commas", found=header[0][:60], fix="save it with commas"
            )

    def body() -> Iterator[tuple[int, list[str]]]:
        for number, row in rows:
            if len(row) != len(header):
                raise ImportDataError(
                    f"{name} line {number} has the wrong number of cells",
                    expected=str(len(header)),
                    found=str(len(row)),
                    fix="quote a cell that holds a comma, and end no line with one",
                )
            yield number, row

    return header, body()


def _csv_rows(name: str, data: bytes) -> Iterator[tuple[int, list[str]]]:
    """(number of the row's first line, cells stripped)."""
    reader = csv.reader(
        io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig", newline=""), strict=True, skipinitialspace=True
    )
    number = 1
    try:
        for row in reader:
            if row:
                yield number, list(map(_text, row))
            number = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise ImportDataError(f"{name} is not UTF-8", expected="UTF-8 text", found=str(error), fix=_AGAIN) from error
    except csv.Error as error:
        raise ImportDataError(
            f"{name} line {number} cannot be read as CSV",
            expected="cells in closed quotes, quotes in them doubled",
            found=str(error),
            fix=_AGAIN,
        ) from error


def _parquet(name: str, data: bytes) -> tuple[list[str], Iterator[tuple[int, list[str]]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(pa.BufferReader(data))
    except (pa.ArrowException, OSError) as error:
        raise ImportDataError(
            f"{name} is not Parquet", expected="a Parquet file", found=str(error), fix=_AGAIN
        ) from error
    for field in table.schema:
        _check_type(name, field)

    def body() -> Iterator[tuple[int, list[str]]]:
        before = 0
        for batch in table.to_batches(max_chunksize=65_536):
            try:
                columns = [_texts(column) for column in batch.columns]
            except UnicodeDecodeError as error:
                raise ImportDataError(
                    f"{name} is not UTF-8", expected="UTF-8 text", found=str(error), fix=_AGAIN
                ) from error
            for number, row in enumerate(zip(*columns, strict=True), before + 1):
                yield number, list(row)
            before += batch.num_rows

    return list(table.column_names), body()


def _check_type(name: str, field: pa.Field) -> None:
    import pyarrow.types as t

    kind = field.type.value_type if t.is_dictionary(field.type) else field.type
    text = t.is_string(kind) or t.is_large_string(kind) or t.is_string_view(kind)
    if not (text or t.is_integer(kind) or t.is_decimal(kind) or t.is_null(kind)):
        raise ImportDataError(
            f"{name}: column {field.name!r} holds {'floats' if t.is_floating(kind) else str(kind)}",
            expected="decimal strings, decimals or integers",
            found=str(field.type),
            fix="write the column as strings: a float is not the amount it came from",
        )


def _texts(column: pa.Array) -> list[str]:
    values = column.to_pylist()
    import pyarrow.types as t

    if t.is_decimal(column.type):  # str() of one may have an exponent
        return ["" if v is None else format(v, "f") for v in values]
    return ["" if v is None else _text(str(v)) for v in values]


def _text(cell: str) -> str:
    """Without space around it, accents composed: two forms of one name are one name."""
    return unicodedata.normalize("NFC", cell.strip())

"""Token metadata as versions: valid from the block at which it was first read so, until one at which it had changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aggregator.core.block import Cut
from aggregator.core.errors import DomainError
from aggregator.core.ids import source_of
from aggregator.core.rows import Asset
from aggregator.core.table import clean_text
from aggregator.store.database import Raw


class AssetVersions:
    """Those that hold, and what a run at this cut changes of them."""

    def __init__(self, raw: Raw, cut: Cut) -> None:
        sql = "SELECT asset, symbol, decimals, name, src, valid_from FROM asset WHERE valid_to IS NULL"
        self._raw, self._cut = raw, cut
        self._known: dict[str, tuple[Any, ...]] = {row[0]: row[1:] for row in raw.fetch(sql)}

    def write(self, assets: Iterable[Asset]) -> None:
        """DomainError for what is no asset, and for a change of one whose source is not in this cut."""
        found = list(assets)
        for asset in found:
            texts = isinstance(asset.symbol, str) and isinstance(asset.name, str) and isinstance(asset.src, bytes)
            if not texts or not isinstance(asset.decimals, int) or not -1 <= asset.decimals <= 255:
                raise DomainError("not an asset", expected="texts, and decimals in -1 .. 255", found=repr(asset)[:500])
        for asset in sorted(set(found)):
            self._write(asset)

    def _write(self, asset: Asset) -> None:
        name, source = clean_text(asset.id), source_of(asset.id)
        values = (clean_text(asset.symbol), asset.decimals, clean_text(asset.name), asset.src)
        block = self._cut.at(source)
        number = block.number if block else 0
        old = self._known.get(name)
        if old is not None and tuple(old[:4]) == values:
            return
        if old is not None and block is None:
            raise DomainError(
                "an asset of a source that is not in this cut would change",
                expected=repr(old[:3]),
                found=repr(asset)[:500],
                fix="give it an id of a source of this cut",
            )
        if old is not None and old[4] < number:
            self._raw.execute("UPDATE asset SET valid_to = ? WHERE asset = ? AND valid_to IS NULL", (number, name))
        elif old is not None:
            self._raw.execute("DELETE FROM asset WHERE asset = ? AND valid_to IS NULL", (name,))
        self._raw.execute(
            "INSERT INTO asset (asset, valid_from, source, symbol, decimals, name, src) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (name, number, source, *values),
        )
        self._known[name] = (*values, number)

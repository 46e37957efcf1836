"""What ids are called on a page or a terminal. Symbols and names come from anybody: nothing of theirs acts on a reader.

Control, format and bidirectional characters are shown as U+FFFD: an escape sequence moves no cursor, a right-to-left
mark turns no number around. Long texts are cut in the middle; the whole is in the JSON and in the cell's title.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from aggregator.core.ids import adapter_of, chain_or_source

if TYPE_CHECKING:
    from aggregator.snapshot import Snapshot

CHAINS = {
    1: "Ethereum",
    10: "Optimism",
    56: "BNB Chain",
    100: "Gnosis",
    137: "Polygon",
    8453: "Base",
    42161: "Arbitrum",
    43114: "Avalanche",
}
MOST, MOST_TITLE = 48, 200


@dataclass(frozen=True, slots=True)
class Cell:
    """What is shown, and what a pointer finds under it."""

    text: str
    title: str = ""


def clean(text: str, most: int = MOST) -> str:
    """text fit to be shown to a person, at most `most` characters."""
    head, tail = text[: most + 1], text[-(most // 3) :]
    cut = text if len(text) <= most else f"{head[: most - len(tail) - 1]}…{tail}"
    return "".join(c if unicodedata.category(c)[0] != "C" else "\ufffd" for c in cut)


def short(text: str) -> str:
    """An address or hash by its ends: 0x1234ab…cdef."""
    return f"{text[:8]}…{text[-4:]}" if text.startswith("0x") and len(text) > 16 else clean(text)


def chain_name(identifier: int | str) -> str:
    """A chain's number, a source or anything on it -> the chain, by name where it has one here; a book by its digest's
    first digits."""
    chain = chain_or_source(identifier) if isinstance(identifier, str) else identifier
    if isinstance(chain, int):
        return CHAINS.get(chain, f"chain {chain}")
    return f"book {chain[5:13]}" if chain.startswith("book:") else clean(chain)


class Names:
    """Display names of one snapshot's assets and markets."""

    def __init__(self, snap: Snapshot) -> None:
        self._assets = {a.id: a.symbol for a in snap.assets.values() if a.symbol}
        self._markets = {m.market: m.name for m in snap.rows("market")}

    def asset(self, identifier: str) -> str:
        """Symbol and chain: WETH · Ethereum."""
        if identifier not in self._assets:
            return short(identifier.rsplit(":", 1)[-1])
        return f"{clean(self._assets[identifier], 24)} · {chain_name(identifier)}"

    def market(self, market: str) -> str:
        """Protocol, name, chain: aave_v3 core · Ethereum. Books that are imported keep their own words."""
        if "/" not in market:
            return clean(market)
        words = f"{adapter_of(market)} {self._markets.get(market, '')}".strip()
        return f"{clean(words)} · {chain_name(market)}"

    def node(self, identifier: str) -> Cell:
        """A market, an asset, a holder."""
        if identifier in self._markets:
            return Cell(self.market(identifier), clean(identifier, MOST_TITLE))
        if identifier in self._assets:
            return Cell(self.asset(identifier), clean(identifier, MOST_TITLE))
        return Cell(short(identifier), clean(identifier, MOST_TITLE))

    def subject(self, text: str) -> Cell:
        """What a gap is about: an id, or market#holder."""
        head, _, holder = text.partition("#")
        shown = self.node(head).text
        return Cell(f"{shown} {short(holder)}" if holder else shown, clean(text, MOST_TITLE))

"""The code book of a database: the names that a run needs, not all that any run has ever met."""

from __future__ import annotations

from collections.abc import Iterable

from aggregator.core.table import Names, clean_text
from aggregator.store.database import Raw

_TOGETHER = 500  # texts of one query
_SHARE = 3  # to look up a third of the book costs what reading all of it does


class StoredNames(Names):
    """Text -> code in table `name`, looked up where it was not asked before; new ones are in `added`, to be written."""

    def __init__(self, raw: Raw) -> None:
        ((last,),) = raw.fetch("SELECT max(id) FROM name")
        super().__init__((), 0 if last is None else last + 1)
        self._raw, self._stored, self._asked = raw, self.following, 0

    def codes(self, texts: Iterable[str]) -> list[int]:
        wanted = list(texts)
        if self._stored:
            self._look_up([text for text in dict.fromkeys(wanted) if text not in self])
        return super().codes(wanted)

    def _look_up(self, texts: list[str]) -> None:
        self._asked += len(texts)
        if self._asked * _SHARE >= self._stored:
            self.update(self._raw.fetch("SELECT text, id FROM name"))
            self._stored = 0  # nothing is left to be looked up
            return
        for i in range(0, len(texts), _TOGETHER):
            part = list(map(clean_text, texts[i : i + _TOGETHER]))
            marks = ", ".join("?" * len(part))
            self.update(self._raw.fetch(f"SELECT text, id FROM name WHERE text IN ({marks})", part))

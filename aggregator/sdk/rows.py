"""From an answer to a row, or to the gap that stands in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import wraps
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from aggregator.core.errors import SourceError
from aggregator.core.fixed import I256_MAX
from aggregator.core.rows import Asset, Gap, Index, Price, Row, Term, Total
from aggregator.sdk.adapter import Answer, Call, Revert, View, Where

ZERO = "0x" + "00" * 20  # no address
Filled = TypeVar("Filled", Index, Price, Term, Total)
Found = TypeVar("Found")


def gap(revert: Revert, subject: str, what: str, accounts: int = -1) -> Gap:
    """The gap of a call that failed. what: the call, for a person. accounts: how many it hides, -1 if unknown."""
    reason = "no_code" if revert.no_code else "reverted"
    return Gap(subject, reason, f"{what}: {revert.reason or 'no reason given'}", accounts)


def need(answer: Answer | Revert, what: str, fix: str) -> Answer:
    """An answer without which nothing of the deployment can be read; SourceError where there is none."""
    if isinstance(answer, Revert):
        found = "no code there" if answer.no_code else answer.reason or "a revert"
        raise SourceError(f"{what} does not answer", expected="a deployed contract", found=found, fix=fix)
    return answer


def fill(answer: Answer | Revert, row: Filled, subject: str, what: str, word: int = 0) -> Filled | Gap:
    """`row` with the answer's word-th value as its number and its source, or the gap of a revert.

    The values must be static and one word each. A number beyond int256 does not fit a term or price: Gap unread.
    """
    if isinstance(answer, Revert):
        return gap(answer, subject, what)
    value, src = int(answer.values[word]), answer.src(word)
    if isinstance(row, Index):
        return row._replace(num=value, src=src)
    if value > I256_MAX and not isinstance(row, Total):
        return Gap(subject, "unread", f"{what} answers {value}, which does not fit int256", src=src)
    return row._replace(raw=value, src=src)


def priced(answer: Answer | Revert, price: Price, what: str) -> Price | Gap:
    """`price` with the answer's number and its source; Gap no_price of its asset where there is none, or zero."""
    found = fill(answer, price, price.asset, what)
    if isinstance(found, Price) and found.raw:
        return found
    why = found.detail if isinstance(found, Gap) else f"{what} answers 0"
    return Gap(price.asset, "no_price", f"{why} in {price.market}", src=found.src)


class _Shared(Generic[Found]):
    """An answer that is looked for by one at a time. No task: whoever asks first does the work in his own."""

    def __init__(self) -> None:
        self.lock, self.found = asyncio.Lock(), list[Found]()


def once(
    find: Callable[[View, Where], Coroutine[Any, Any, Found]],
) -> Callable[[View, Where], Coroutine[Any, Any, Found]]:
    """For what every slice of a deployment begins with: one answer per view, which all who ask wait for together.

    `find` gets the deployment without what is known of it: that grows while it is discovered. A failure or cancellation
    is its asker's own; the next one asks anew.
    """
    views: WeakKeyDictionary[View, dict[str, _Shared[Found]]] = WeakKeyDictionary()

    @wraps(find)
    async def shared(view: View, where: Where) -> Found:
        where = where._replace(markets=(), targets=())
        one = views.setdefault(view, {}).setdefault(repr(where), _Shared())
        async with one.lock:
            if not one.found:
                one.found.append(await find(view, where))
        return one.found[0]

    return shared


async def ask(view: View, questions: Sequence[Mapping[str, Call]]) -> list[dict[str, Answer | Revert]]:
    """Several named questions about several things in one large read, answers under the same names."""
    answers = iter(await view.calls([call for asked in questions for call in asked.values()]))
    return [{key: next(answers) for key in asked} for asked in questions]


class Assets(dict[str, Asset]):
    """Assets by address, and the `rows` to yield for them: each asset, and a gap where its decimals are unknown."""

    rows: list[Row]


async def assets(view: View, addresses: Sequence[str]) -> Assets:
    """Metadata of tokens, each asked once, in the given order."""
    unique = list(dict.fromkeys(addresses))
    answers = await asyncio.gather(*map(view.asset, unique))  # together: a view lets small reads share one request
    out = Assets(zip(unique, (asset for asset, _ in answers), strict=True))
    out.rows = [row for answer in answers for row in answer if row is not None]
    return out

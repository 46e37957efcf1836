"""What adapters say again and again: asking by names, and an answer as a row or as the gap that stands in its place."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import wraps
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from aggregator.core.errors import SourceError
from aggregator.core.fixed import I256_MAX
from aggregator.core.rows import Gap, Index, Price, Term, Total
from aggregator.sdk.adapter import Answer, Call, Got, Revert, Target, View, Where

Filled = TypeVar("Filled", Index, Price, Term, Total)
Found = TypeVar("Found")
Name = TypeVar("Name")


def gap(revert: Revert, subject: str | Target, what: str, accounts: int = -1) -> Gap:
    """The gap of a call that failed. subject: an id, or the account that it hides. what: the call, for a person.

    accounts: how many it hides, -1 if unknown.
    """
    if isinstance(subject, Target):
        subject, accounts = subject.subject, 1
    reason = "no_code" if revert.no_code else "reverted"
    return Gap(subject, reason, f"{what}: {revert.reason or 'no reason given'}", accounts)


def fill(answer: Got, row: Filled, word: int = 0, *, what: str = "", subject: str = "") -> Filled | Gap:
    """`row` with the answer's word-th value as its number and its source, or the gap of a revert.

    The values must be static and one word each. A number beyond int256 does not fit a term or price: Gap unread.
    what, subject: of the gap; by default a term's key (with its scope), and the row's asset or else its market.
    """
    subject = subject or row.asset or row.market
    if isinstance(row, Term):
        what = what or (f"{row.key} of {row.scope}" if row.scope else row.key)
    if isinstance(answer, Revert):
        return gap(answer, subject, what)
    value, src = int(answer.values[word]), answer.src(word)
    if isinstance(row, Index):
        return row._replace(num=value, src=src)
    if value > I256_MAX and not isinstance(row, Total):
        return Gap(subject, "unread", f"{what} answers {value}, which does not fit int256", src=src)
    return row._replace(raw=value, src=src)


def priced(answer: Got, price: Price, what: str, *, zero_is_price: bool) -> Price | Gap:
    """`price` with the answer's number and its source; Gap no_price of its asset where there is none.

    zero_is_price: whether the protocol itself reckons with an answer of 0, so that the asset counts for nothing; else 0
    is how the contract says that it knows no price.
    """
    found = fill(answer, price, what=what)
    if isinstance(found, Price) and (found.raw or zero_is_price):
        return found
    why = found.detail if isinstance(found, Gap) else f"{what} answers 0"
    return Gap(price.asset, "no_price", f"{why} in {price.market}", src=found.src)


def questions(to: str, sigs: Mapping[str, str], *args: Any) -> dict[str, Call]:
    """One contract's getters by name, all with the same arguments: what `ask` and `demand` take."""
    return {name: Call(to, sig, args) for name, sig in sigs.items()}


async def ask(view: View, questions: Sequence[Mapping[Name, Call]]) -> list[dict[Name, Got]]:
    """Several named questions about several things in one large read, answers under the same names."""
    answers = iter(await view.calls([call for asked in questions for call in asked.values()]))
    return [{name: next(answers) for name in asked} for asked in questions]


async def demand(view: View, where: Where, questions: Sequence[Mapping[Name, Call]]) -> list[dict[Name, Answer]]:
    """`ask` for what nothing can be read without; SourceError where an answer is missing."""
    asked = await ask(view, questions)
    return [
        {name: need(answer, f"{calls[name].sig} of {calls[name].to}", where) for name, answer in got.items()}
        for calls, got in zip(questions, asked, strict=True)
    ]


def need(answer: Got, what: str, where: Where) -> Answer:
    """An answer without which nothing of the deployment can be read; SourceError where there is none."""
    if isinstance(answer, Revert):
        found = "no code there" if answer.no_code else answer.reason or "a revert"
        keys = ", ".join(sorted(where.addresses)) or "addresses"
        fix = f"check {keys} and chain of {where.name} in config/deployments/{where.adapter}.toml"
        raise SourceError(f"{what} does not answer", expected="a deployed contract", found=found, fix=fix)
    return answer


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

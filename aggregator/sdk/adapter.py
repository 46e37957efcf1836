"""All that an adapter may see: one source frozen at one block, and the three verbs it answers with.

    discover(view, where, since) -> targets         events up to the block; incremental
    terms(view, where)           -> market rows     what holds for the market; once a run
    read(view, where, targets)   -> position rows   positions of these targets; once a slice of a few hundred

An adapter opens no session, starts no task, sleeps, retries and caches nothing, knows no clock, uses no float.
It makes few large `calls` (or `each`), never one await per account. Answers align with calls; a revert is a value and
becomes a `Gap` row. Same view, same targets: same rows, same order, however the targets are sliced.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, Self

from aggregator.core.block import BlockRef
from aggregator.core.errors import ConfigError, DomainError, near_miss, shown
from aggregator.core.ids import deployment_id, parse_address
from aggregator.core.rows import Asset, Gap, PositionRow, Row
from aggregator.core.source import call_source


class Call(NamedTuple):
    """sig is human: 'balanceOf(address)(uint256)'; tuples and arrays as in Solidity."""

    to: str
    sig: str
    args: tuple[Any, ...] = ()


class Revert(NamedTuple):
    """A sub-call that failed when asked again alone. reason: decoded text, '' if none. no_code: nothing lives there."""

    reason: str
    no_code: bool = False

    @property
    def value(self) -> None:
        """None, so that whoever asks an answer or revert for its value says what holds without one."""

    def src(self, word: int = 0) -> bytes:
        """Nothing was answered."""
        return b""


class Answer(NamedTuple):
    """Decoded values (addresses lower-case 0x, bytes as bytes, integers exact) and the call that gave them."""

    values: tuple[Any, ...]
    to: str
    data: bytes

    @property
    def value(self) -> Any:
        """The only (or first) value."""
        return self.values[0]

    def src(self, word: int = 0) -> bytes:
        """Provenance of the word-th 32-byte word of this answer, for a row's `src`."""
        return call_source(self.to, self.data, word)


Got = Answer | Revert


class Each(NamedTuple):
    """One question of a single one-word argument (an address, an id), asked about many."""

    to: str
    sig: str
    args: Sequence[Any]


class Column(NamedTuple):
    """Answers to an `Each`, aligned with its args.

    values: the only value of each answer (a tuple where there are several), None where it reverted.
    """

    values: list[Any]
    reverts: dict[int, Revert]
    to: str
    data: bytes  # calldatas back to back, each a selector and one word

    def src(self, i: int, word: int = 0) -> bytes:
        """Provenance of the word-th 32-byte word of the i-th answer."""
        return call_source(self.to, self.data[36 * i : 36 * i + 36], word)

    def nonzero(self) -> list[tuple[int, Any, bytes]]:
        """(place, value, provenance) of every answer that is neither zero nor a revert: most balances are zero.

        DomainError for answers that are no integers: a tuple of zeros, a zero address or hash would pass for something.
        """
        first = next((value for value in self.values if value is not None), 0)
        if not isinstance(first, int):
            raise DomainError(
                "only integers are zero or not",
                expected="answers of one integer each",
                found=shown(first, 200),
                fix="go through `values` and `reverts`",
            )
        to, data = call_source(self.to, b""), self.data
        return [(i, value, to + data[36 * i : 36 * i + 36]) for i, value in enumerate(self.values) if value]


class Log(NamedTuple):
    """args: decoded event arguments by name. Logs come ordered by (block, index)."""

    address: str
    event: str
    args: Mapping[str, Any]
    block: int
    log_index: int
    tx: str


class Target(NamedTuple):
    """What to read: an account (market, holder), a position (market, '', ref) or a market alone (market, '', '').

    A position row belongs to the target whose non-empty fields it matches; reading a target replaces all its rows.
    A target with neither holder nor ref names a market and is remembered for `Where.markets`.
    """

    market: str
    holder: str = ""
    ref: str = ""

    @property
    def key(self) -> str:
        """What `Where.market_id` made the market's id of."""
        return self.market.rpartition("/")[2]

    @property
    def subject(self) -> str:
        """The account or position as a Gap names it."""
        return f"{self.market}#{self.holder or self.ref}"


class Where(NamedTuple):
    """One deployment of an adapter: a row of its TOML, and what is known of it so far.

    markets: all market targets discovered up to this block, sorted. targets: all others, sorted; for market rows that
    depend on them (claims of LP positions, expired options). file: where the row stands, for a person to mend it.
    """

    adapter: str
    source: str
    name: str
    addresses: Mapping[str, str]
    start_block: int
    options: Mapping[str, Any]
    markets: tuple[Target, ...] = ()
    targets: tuple[Target, ...] = ()
    file: str = ""

    @property
    def id(self) -> str:
        return deployment_id(self.source, self.adapter, self.name)

    @property
    def chain(self) -> int:
        return int(self.source.removeprefix("eip155:"))

    def market_id(self, key: str) -> str:
        """Of one of several markets here; key: its address or hash, which `Target.key` gives back."""
        return f"{self.id}/{key}"

    def address(self, key: str) -> str:
        """Lower-case address under `key`; ConfigError names the missing key."""
        try:
            return self.addresses[key].lower()
        except KeyError:
            found = ", ".join(sorted(self.addresses)) or "no addresses"
            raise self.misconfigured("lacks an address", f"addresses.{key}", found) from None

    def listed(self, key: str) -> list[str]:
        """Addresses under an option, lower case, sorted, each once; none without it. ConfigError for anything else."""
        found = self.options.get(key, ())
        if not isinstance(found, list | tuple):
            raise self.misconfigured(f"has no list of {key}", '["0x..."]', repr(found))
        try:
            return sorted({parse_address(str(one)) for one in found})
        except ConfigError as error:
            raise self.misconfigured(f"lists no address under {key}", error.expected, error.found) from None

    def misconfigured(self, what: str, expected: str, found: str) -> ConfigError:
        """The error of a row of the configuration that an adapter cannot use."""
        fix = f"correct it in {self.file or f'config/deployments/{self.adapter}.toml'}"
        return ConfigError(f"deployment {self.id} {what}", expected=expected, found=found[:200], fix=fix)


class View(Protocol):
    """One source at one block: the only door. Batches, splits on failure, limits rate, retries, records and replays."""

    @property
    def at(self) -> BlockRef: ...

    @property
    def last(self) -> int:
        """Where logs end: at.number, or what `until` says."""
        ...

    async def calls(self, calls: Sequence[Call]) -> list[Answer | Revert]:
        """Any number of reads at the block, answers aligned with calls."""
        ...

    async def each(self, questions: Sequence[Each]) -> list[Column]:
        """`calls` for few questions about many accounts, without an object for every call."""
        ...

    def logs(
        self, addresses: Sequence[str], events: Sequence[str], since: int, topics: Sequence[Sequence[str] | None] = ()
    ) -> AsyncIterator[Log]:
        """Logs of blocks [since, at], or to where `until` says.

        events: human, 'Transfer(address indexed from,address indexed to,uint256 value)'.
        addresses empty = any contract. topics: filters for indexed arguments 1..3, 32-byte hex words.
        """
        ...

    async def asset(self, address: str) -> tuple[Asset, Gap | None]:
        """Token metadata: symbol() as string or bytes32, decimals() -1 with a Gap where missing or above 36."""
        ...

    def until(self, block: int) -> Self:
        """The same view, its calls at the same block, whose logs end at `block`."""
        ...

    async def get(self, path: str, params: Mapping[str, Any] | None = None) -> Any:
        """HTTP venues: GET below the venue's base URL -> decoded JSON (numbers with a point as decimal.Decimal)."""
        ...

    async def post(self, path: str, body: Any) -> Any: ...


class Adapter:
    """Base of all adapters: each verb is empty by default, so an oracle writes only `terms`.

    `name` is the module's name and the key in configuration. `kind` chain or venue says what a source is.
    `addresses` and `options` are the keys that it reads of a deployment's row, in its `addresses` and beside them;
    `required` are groups of these, of each of which a row gives one at least.
    """

    name: str = ""
    kind: str = "chain"
    addresses: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    required: tuple[tuple[str, ...], ...] = ()

    def check(self, where: Where) -> None:
        """ConfigError for a row with a key that is none of these, or without one that is required."""
        given = {**dict.fromkeys(where.addresses, "addresses."), **dict.fromkeys(where.options, "")}
        for keys, known, place in ((where.addresses, self.addresses, "addresses."), (where.options, self.options, "")):
            for key in keys:
                if key not in known:
                    expected = ", ".join(place + k for k in known) or "none"
                    wrong = where.misconfigured(f"has an unknown key {place}{key}", expected, place + key)
                    wrong.fix = f"{near_miss(key, known, 'remove it')}; {wrong.fix}"
                    raise wrong
        for group in self.required:
            if not any(where.addresses.get(key) or where.options.get(key) for key in group):
                named = " or ".join(f"{'addresses.' if key in self.addresses else ''}{key}" for key in group)
                found = ", ".join(f"{place}{key}" for key, place in given.items()) or "none"
                raise where.misconfigured("lacks a key", named, found)

    async def discover(self, view: View, where: Where, since: int) -> AsyncIterator[Target]:
        """Targets touched by the view's logs from `since` on: new ones, and known ones whose rows may have changed.

        The same one may be named many times. A long range comes in windows, one call each, oldest first: logs end where
        the window ends, calls are answered at the cut, and `where` knows what earlier windows found.
        """
        return
        yield

    async def terms(self, view: View, where: Where) -> AsyncIterator[Row]:
        return
        yield

    async def read(self, view: View, where: Where, targets: Sequence[Target]) -> AsyncIterator[PositionRow | Gap]:
        return
        yield

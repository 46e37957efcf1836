"""An HTTP venue: rate budget, retries of reads, its own time, and numbers as decimals."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, NoReturn
from urllib.parse import urlencode

import orjson

from aggregator.chain.endpoint import Endpoint, Failed, dumps, send
from aggregator.chain.redact import Redactor, check_url
from aggregator.chain.session import SessionOwner
from aggregator.chain.stats import Stats
from aggregator.core import strict_json
from aggregator.core.block import BlockRef
from aggregator.core.errors import MalformedAnswerError, RateLimitedError, SourceError, shown
from aggregator.core.ids import venue_source

_UNIT_US = {"s": 1_000_000, "ms": 1000, "us": 1}


class Venue(SessionOwner):
    """name: 'deribit'. base_url: all paths lie below it. Both verbs are reads and are retried.

    A key of the base URL that an answer repeats reads *** (`Redactor.data`), live and recorded alike.
    """

    def __init__(
        self,
        name: str,
        base_url: str,
        *,
        max_per_s: float = math.inf,
        timeout_s: float = 30.0,
        deadline_s: float = 120.0,
        rounds: int = 5,
    ) -> None:
        self.name, self.source = name, venue_source(name)
        self._base = check_url(base_url).rstrip("/")
        self._endpoint = Endpoint(base_url, max_per_s if max_per_s > 0 else math.inf)
        self.redact = Redactor([base_url])
        self.timeout_s, self.deadline_s, self.rounds = timeout_s, deadline_s, max(1, rounds)
        self.stats = Stats()
        self._slots = asyncio.Semaphore(8)

    def __repr__(self) -> str:
        return f"Venue({self.name}, {self._endpoint.name})"

    async def fetch(self, method: str, path: str, params: Mapping[str, Any], body: Any) -> str:
        """Body of an answer that is JSON; of a 4xx too, if it is the venue's own refusal: {"error": {..}}.

        SourceError or RateLimitedError after the deadline or all rounds.
        """
        clock = asyncio.get_running_loop().time
        deadline, backoff_s, last, rounds = clock() + self.deadline_s, 0.1, Failed("transport", "not asked"), 0
        url = f"{self._base}/{path.lstrip('/')}" + (f"?{_query(params)}" if params else "")
        payload = None if body is None else dumps(body)
        headers = {"content-type": "application/json", "user-agent": "spillover", "accept": "application/json"}
        while rounds < self.rounds:
            wait_s = self._endpoint.reserve(1, clock())
            if clock() + wait_s >= deadline:
                break
            await asyncio.sleep(wait_s)
            async with self._slots:
                self.stats.requests += 1
                timeout_s = max(0.001, min(self.timeout_s, deadline - clock()))
                answer = await send(self.session(), method, url, payload, headers, timeout_s)
            outcome = answer if isinstance(answer, Failed) else self._judge(*answer)
            if isinstance(outcome, str):
                return outcome
            last = outcome
            if last.kind == "refused":
                break
            self.stats.retries += 1
            if last.kind != "rate":
                rounds += 1
            wait_s = last.retry_after_s or backoff_s
            backoff_s = min(2 * backoff_s, 5.0)
            if clock() + wait_s >= deadline:
                break
            await asyncio.sleep(wait_s)
        kind = RateLimitedError if last.kind == "rate" else SourceError
        raise kind(
            f"{self.source} did not answer {method} {path}",
            expected=f"JSON within {self.deadline_s:g} s",
            found=f"{self._endpoint.name}: {self.redact(last.text)}",
            fix="check the venue's status and the base URL, or lower the request rate",
        )

    def _judge(self, status: int, text: bytes, retry_after_s: float) -> str | Failed:
        self.stats.bytes_in += len(text)
        if status == 429:
            return Failed("rate", "HTTP 429", retry_after_s)
        if status >= 500:
            return Failed("transport", f"HTTP {status}", retry_after_s)
        refused = Failed("refused", f"HTTP {status}: {text[:200].decode('utf-8', 'replace')}")
        try:
            decoded = text.decode("utf-8")
            # what it repeats of its URL must not be recorded, or shown
            decoded = self.redact(decoded, limit=4096) if status >= 400 else self.redact.data(decoded)
            answer = parse_json(decoded, self.source)
        except (UnicodeDecodeError, MalformedAnswerError):
            return Failed("malformed", f"answer of {len(text)} bytes is not JSON") if status < 400 else refused
        said = status < 400 or (isinstance(answer, Mapping) and isinstance(answer.get("error"), Mapping))
        return decoded if said else refused

    async def pin(self, path: str, pointer: str, unit: str = "ms") -> BlockRef:
        """The venue's own time as the cut: `pointer` ('/result') into the answer of GET `path`, in s, ms or us.

        number is microseconds; hash is '' until all is read (`VenueView.digest`).
        """
        answer = parse_json(await self.fetch("GET", path, {}, None), self.source)
        for key in pointer.strip("/").split("/"):
            answer = answer.get(key) if isinstance(answer, Mapping) else None
        if isinstance(answer, bool) or not isinstance(answer, int | Decimal) or answer <= 0:
            raise MalformedAnswerError(
                f"{self.source} gives no time", expected=f"a number at {pointer} of {path}", found=shown(answer)
            )
        microseconds = int(answer * _UNIT_US[unit])
        return BlockRef(self.source, microseconds, "", microseconds // 1_000_000, "venue")


def parse_json(text: str, what: str) -> Any:
    """JSON with exact numbers: integers as int, all others as Decimal.

    MalformedAnswerError for NaN, for a key that is there twice and for broken text.
    """
    try:
        orjson.loads(text)  # refuses deep nesting, which overflows the C stack of the exact parser
        return strict_json.loads(text, parse_float=Decimal, parse_constant=_not_a_number)
    except (ValueError, RecursionError) as error:
        repeated = isinstance(error, strict_json.RepeatedKeyError)
        found = str(error) if repeated else text[:80].replace("\n", " ")
        raise MalformedAnswerError(f"{what} is not JSON", expected="a JSON document", found=found) from None


def question(method: str, path: str, params: Mapping[str, Any]) -> str:
    """'GET /public/ticker?instrument_name=BTC-PERPETUAL', parameters sorted: a request's name in a recording."""
    return f"{method} /{path.lstrip('/')}" + (f"?{_query(params)}" if params else "")


def body_key(body: Any) -> str:
    return "" if body is None else json.dumps(body, sort_keys=True, separators=(",", ":"), default=str)


def _query(params: Mapping[str, Any]) -> str:
    plain = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in params.items()}
    return urlencode(sorted(plain.items()))


def _not_a_number(text: str) -> NoReturn:
    raise ValueError(text)

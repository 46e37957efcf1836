"""One URL: its rate budget, its manners, and one HTTP attempt that either answers or says in safe words why not."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping, Sequence
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

import aiohttp
import orjson

from aggregator.chain.redact import check_url, redact
from aggregator.chain.rpc_error import RpcError, parse_error
from aggregator.chain.stats import Stats

Item = tuple[str, Any]
MAX_ANSWER_BYTES = 64 * 2**20
_INVALID = (-32600, -32700)  # how a node that knows no batches takes one
_HEADERS = {"content-type": "application/json", "user-agent": "spillover"}


class Failed(NamedTuple):
    """An attempt without an answer. kind: transport | rate | malformed | auth | size | lie."""

    kind: str
    text: str
    retry_after_s: float = 0.0


class Endpoint:
    """max_per_s counts JSON-RPC items (providers bill those), math.inf for no budget."""

    def __init__(self, url: str, max_per_s: float) -> None:
        self._url = check_url(url)
        self.name = redact(url)
        self.max_per_s = max_per_s
        self.next_free_s = 0.0  # budget: when the next item may leave
        self.cool_until_s = 0.0  # the endpoint asked for a pause
        self.shun_until_s = 0.0  # it failed: others are asked first, if there are any
        self.failures = 0  # in a row
        self.chain_known = False
        self.by_number = False  # rejects EIP-1898: asked by number, hash checked before and after
        self.max_batch = 1000
        self.last_failure = ""
        self.chain_lock = asyncio.Lock()
        self.chain_failed: Failed | None = None  # how the last check of the chain id ended

    def __repr__(self) -> str:
        return f"Endpoint({self.name})"

    def reserve(self, items: int, now_s: float) -> float:
        """Take the budget of `items`; the seconds to wait before sending. Up to a second's worth may burst."""
        if math.isinf(self.max_per_s):
            return 0.0
        start = max(self.next_free_s, now_s - 1.0)
        self.next_free_s = start + items / self.max_per_s
        return max(0.0, start - now_s)

    def shun(self, now_s: float, seconds: float = 0.0) -> None:
        """Behind the others for 2, 4, 8 .. 128 s, so that one that hangs does not cost every request its timeout."""
        if now_s >= self.shun_until_s:  # else one fault met several requests in flight
            self.failures += 1
        self.shun_until_s = max(self.shun_until_s, now_s + (seconds or 2.0 ** min(self.failures, 7)))

    def cool(self, seconds: float, now_s: float) -> None:
        self.cool_until_s = max(self.cool_until_s, now_s + seconds)

    async def post(
        self, session: aiohttp.ClientSession, items: Sequence[Item], timeout_s: float, stats: Stats
    ) -> list[Any] | Failed:
        """Results (or RpcError, or Failed for a missing item) aligned with items, or Failed.

        One HTTP request; several, one after another, for a node that refuses long batches, and where a request or its
        answer is too large: a single item that still is has RpcError 413.
        """
        out: list[Any] = []
        length = len(items)
        invalid = False
        while len(out) < len(items):
            length = min(length, self.max_batch)
            part = items[len(out) : len(out) + length]
            answer = await self._post_once(session, part, timeout_s, stats)
            if isinstance(answer, Failed) and answer.kind == "size":
                if len(part) > 1:
                    length = len(part) // 2
                    continue
                answer = [RpcError(413, answer.text)]
            if isinstance(answer, Failed):
                return answer
            if len(part) > 1 and all(isinstance(a, RpcError) and a.is_batch_limit for a in answer):
                self.max_batch = len(part) // 2
            elif len(part) > 1 and all(isinstance(a, RpcError) and a.rpc_code in _INVALID for a in answer):
                invalid, length = True, len(part) // 2  # of the batch, or of what is asked: parts will tell
            else:
                out += answer
        if invalid and not any(isinstance(a, RpcError) for a in out):
            self.max_batch = length
        return out

    async def _post_once(
        self, session: aiohttp.ClientSession, items: Sequence[Item], timeout_s: float, stats: Stats
    ) -> list[Any] | Failed:
        members = [{"jsonrpc": "2.0", "id": i, "method": m, "params": p} for i, (m, p) in enumerate(items)]
        body = dumps(members if len(members) > 1 else members[0])
        stats.requests += 1
        stats.bytes_out += len(body)
        answer = await send(session, "POST", self._url, body, _HEADERS, timeout_s)
        if isinstance(answer, Failed):
            return answer
        status, text, retry_after_s = answer
        stats.bytes_in += len(text)
        if status in (401, 403, 407, 413):  # whatever the body says
            return _http_failure(status, retry_after_s) or Failed("transport", f"HTTP {status}")
        try:
            decoded = orjson.loads(text)
        except (ValueError, RecursionError):
            if len(items) > 1 and (status == 400 or (400 < status < 500 and b"batch" in text.lower())):
                return Failed("size", f"HTTP {status}: batch refused")
            return _http_failure(status, retry_after_s) or Failed(
                "malformed", f"answer of {len(text)} bytes is not JSON"
            )
        if status >= 400 and not _is_rpc(decoded):
            return _http_failure(status, retry_after_s) or Failed("transport", f"HTTP {status}")
        aligned = _align(decoded, len(items))
        if status == 429 and not isinstance(aligned, Failed):
            return Failed("rate", "HTTP 429", retry_after_s)
        return aligned


def dumps(value: Any) -> bytes:
    return orjson.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    """web3 hands over bytes, HexBytes and AttributeDict."""
    if isinstance(value, bytes):
        return "0x" + value.hex()
    if hasattr(value, "items"):
        return dict(value)
    raise TypeError(f"not JSON: {type(value).__name__}")


async def send(
    session: aiohttp.ClientSession, method: str, url: str, body: bytes | None, headers: dict[str, str], timeout_s: float
) -> tuple[int, bytes, float] | Failed:
    """(status, body, Retry-After) or Failed. No exception with a URL in it leaves; redirects are not followed."""
    try:
        async with (
            asyncio.timeout(timeout_s),
            session.request(method, url, data=body, headers=headers, allow_redirects=False) as answer,
        ):
            if 300 <= answer.status < 400:
                return Failed("transport", f"HTTP {answer.status}: redirects are not followed")
            parts: list[bytes] = []
            size = 0
            while part := await answer.content.readany():
                size += len(part)
                if size > MAX_ANSWER_BYTES:
                    return Failed("size", f"answer above {MAX_ANSWER_BYTES} bytes is too large")
                parts.append(part)
            return answer.status, b"".join(parts), _retry_after(answer.headers)
    except TimeoutError:
        return Failed("transport", f"no answer within {timeout_s:.3g} s")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or ""
        return Failed("transport", f"{type(error).__name__} {reason}".strip())


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds of Retry-After (RFC 9110), a date taken from the server's own; 0 if none: back-off decides."""
    text = headers.get("Retry-After", "")
    try:
        seconds = float(text)
    except ValueError:
        try:
            wait = parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("Date", ""))
        except (ValueError, TypeError):  # no date, or one without a time zone
            return 0.0
        seconds = wait.total_seconds()
    return min(seconds, 86400.0) if seconds >= 0.0 else 0.0


def _http_failure(status: int, retry_after_s: float) -> Failed | None:
    if status == 429:
        return Failed("rate", "HTTP 429", retry_after_s)
    if status in (401, 403, 407):
        return Failed("auth", f"HTTP {status}: the key is missing, wrong or not allowed")
    if status == 413:
        return Failed("size", "HTTP 413: request too large")
    if status >= 400:
        return Failed("transport", f"HTTP {status}", retry_after_s)
    return None


def _is_rpc(decoded: Any) -> bool:
    return isinstance(decoded, list) or (isinstance(decoded, dict) and ("result" in decoded or "error" in decoded))


def _align(decoded: Any, count: int) -> list[Any] | Failed:
    """Members of the answer by id. One error object for a whole batch is every item's error."""
    if isinstance(decoded, dict) and _is_rpc(decoded):
        if count > 1:
            if decoded.get("error") is None:
                return Failed("malformed", "one answer to a batch of several requests")
            return [parse_error(decoded["error"])] * count
        decoded = [decoded]
    if not isinstance(decoded, list):
        return Failed("malformed", "answer is not a JSON-RPC object")
    out: list[Any] = [Failed("malformed", "the answer to one request of the batch is missing")] * count
    seen = bytearray(count)
    for member in decoded:
        if not isinstance(member, dict):
            return Failed("malformed", "member of a batch answer is not an object")
        i = member.get("id")
        error = member.get("error")
        if count == 1 and i is None and error is not None:
            i = 0  # an error before the id could be read
        if not isinstance(i, int) or not 0 <= i < count or seen[i]:
            return Failed("malformed", "unknown or repeated id in the answer")
        if error is None and "result" not in member:
            return Failed("malformed", "answer with neither result nor error")
        seen[i] = 1
        out[i] = member["result"] if error is None else parse_error(error)
    return out


__all__ = ["MAX_ANSWER_BYTES", "Endpoint", "Failed", "Item", "RpcError", "dumps", "send"]

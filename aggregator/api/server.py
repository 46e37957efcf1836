"""aiohttp service. One envelope: `data`, `meta` (cut, age, coverage, degraded), `links`; errors are RFC 9457.

Work that computes runs in a thread; every answer comes from one immutable snapshot. A stress is named by the digest of
what was read, scenario and version, so the same question is computed once.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import orjson
from aiohttp import web

from aggregator import __version__
from aggregator.api.current import Current, Held
from aggregator.api.openapi import document
from aggregator.app import App
from aggregator.core import strict_json
from aggregator.core.errors import ConfigError, DatabaseError, SpilloverError, StoreError, near_miss
from aggregator.core.result import unread
from aggregator.core.scenario import Scenario, parse_scenario
from aggregator.report.coverage import coverage_json, coverage_of
from aggregator.report.plain import cut_json

log = logging.getLogger("spillover.api")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_APP: web.AppKey[App] = web.AppKey("app", App)
_CURRENT: web.AppKey[Current] = web.AppKey("current", Current)
_RESULTS: web.AppKey[OrderedDict[str, dict[str, Any]]] = web.AppKey("results", OrderedDict)
_ONE: web.AppKey[asyncio.Semaphore] = web.AppKey("one", asyncio.Semaphore)
KEPT_RESULTS = 32
MAX_BODY_BYTES = 256 * 1024


def make_app(app: App, *, look_s: float = 1.0) -> web.Application:
    service = web.Application(middlewares=[_problems], client_max_size=MAX_BODY_BYTES)
    service[_APP], service[_CURRENT] = app, Current(app, look_s)
    service[_RESULTS], service[_ONE] = OrderedDict(), asyncio.Semaphore(1)
    service.add_routes(
        [
            web.get("/healthz", _health),
            web.get("/openapi.json", _openapi),
            web.get("/v1/cuts", _cuts),
            web.get("/v1/coverage", _coverage),
            web.get("/v1/wallets/{address}", _wallet),
            web.get("/v1/stress", _stress_named),
            web.post("/v1/stress", _stress_posted),
        ]
    )
    return service


def serve(app: App, host: str, port: int) -> None:
    """Run until SIGINT or SIGTERM. ConfigError if the address cannot be had."""
    try:
        web.run_app(make_app(app), host=host, port=port, print=None, handle_signals=True)
    except OSError as error:
        raise ConfigError(
            "cannot listen",
            expected="a free port on an address of this machine",
            found=f"{host}:{port} ({error.strerror})",
            fix="choose another --port or --host",
        ) from error


@web.middleware
async def _problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        if request.match_info.http_exception is None:
            _check_query(request)
        return await handler(request)
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return _refusal(request, error)
    except DatabaseError as error:
        log.error("%s %s: %s", request.method, request.path, error)  # what it names is not for everybody
        return _problem(503, error.problem() | {"found": "", "fix": "try again later"})
    except StoreError as error:
        return _problem(503, error.problem() | {"found": ""})  # where the store lies is not, either
    except ConfigError as error:
        return _problem(422, error.problem())
    except SpilloverError as error:
        return _problem(500, error.problem())
    except Exception as error:
        log.exception("%s %s", request.method, request.path)
        found = SpilloverError("the service has a defect here", found=type(error).__name__, fix="report it")
        return _problem(500, found.problem())


def _check_query(request: web.Request) -> None:
    """A parameter that would be ignored is refused: who asks for another cut must not get the last one."""
    known = ["scenario"] if request.path == "/v1/stress" and request.method != "POST" else []
    for key in request.query:
        if key in known and len(request.query.getall(key)) > 1:
            raise ConfigError(f"parameter {key!r} is given twice", expected="once", found=request.query_string)
        if key not in known:
            raise ConfigError(
                f"unknown parameter {key!r}", expected=", ".join(known) or "no parameter", found=key,
                fix=near_miss(key, known, "remove it"),
            )  # fmt: skip


def _refusal(request: web.Request, error: web.HTTPException) -> web.Response:
    """What aiohttp itself refuses: no such path, method or size."""
    routes = request.app.router.routes()
    expected = {
        404: "one of " + ", ".join(sorted({r.resource.canonical for r in routes if r.resource})),
        405: error.headers.get("Allow", ""),
        413: f"at most {MAX_BODY_BYTES} bytes",
    }.get(error.status, "")
    title = {
        404: "There is nothing at this path.",
        405: "This path is not asked in this way.",
        413: "The body is too large.",
    }.get(error.status, f"{error.reason}.")
    members = {
        "type": f"urn:spillover:HTTP-{error.status}",
        "title": title,
        "detail": error.reason,
        "code": f"HTTP-{error.status}",
        "expected": expected,
        "found": f"{request.method} {request.path}",
        "fix": "/openapi.json says what can be asked",
    }
    answer = _problem(error.status, members)
    if "Allow" in error.headers:
        answer.headers["Allow"] = error.headers["Allow"]
    return answer


def _problem(status: int, members: dict[str, Any]) -> web.Response:
    body = {"status": status, **members}
    return web.Response(body=orjson.dumps(body), status=status, content_type="application/problem+json")


def _answer(
    request: web.Request, held: Held, data: Any, links: dict[str, str], degraded: list[str] | None = None
) -> web.Response:
    """degraded: what is wanting in data; what was not read in full otherwise."""
    coverage = coverage_json(held.snapshot)
    meta = {
        "cut": cut_json(held.snapshot.cut),
        "age_s": int(time.time()) - held.snapshot.cut.time_s,
        "coverage": coverage,
        "degraded": unread(coverage_of(held.snapshot)) if degraded is None else degraded,
        "version": __version__,
    }
    answer = {"data": data, "meta": meta, "links": links}
    headers = {"ETag": _weak_tag(answer)}
    if request.method in ("GET", "HEAD") and _has(request, headers["ETag"]):
        return web.Response(status=304, headers=headers)
    return web.Response(body=orjson.dumps(answer), content_type="application/json", headers=headers)


def _has(request: web.Request, tag: str) -> bool:
    """Whether the asker holds this answer already: If-None-Match compares tags weakly (RFC 9110, 13.1.2)."""
    return bool({known.value for known in request.if_none_match or ()} & {"*", tag.removeprefix("W/").strip('"')})


def _weak_tag(answer: dict[str, Any]) -> str:
    """ETag of all but the ages, which change by the second: weak, for the same tag covers bytes that differ in them."""
    ageless = {
        part: {key: value for key, value in said.items() if key != "age_s"} if isinstance(said, dict) else said
        for part, said in answer.items()
    }
    return f'W/"{hashlib.sha256(orjson.dumps(ageless)).hexdigest()[:32]}"'


async def _health(request: web.Request) -> web.Response:
    """Alive, and whether there is a cut to answer from."""
    state: dict[str, Any] = {"cut": None, "age_s": None}
    try:
        held = await request.app[_CURRENT].get()
        cut = held.snapshot.cut
        state = {"status": "ok", "cut": cut.digest, "age_s": int(time.time()) - cut.time_s}
        state["detail"] = request.app[_CURRENT].trouble
    except DatabaseError as error:
        state |= {"status": "unavailable", "detail": error.message}
    except StoreError as error:
        state |= {"status": "empty", "detail": error.message}
    return web.Response(body=orjson.dumps(state | {"version": __version__}), content_type="application/json")


async def _openapi(request: web.Request) -> web.Response:
    return web.Response(body=orjson.dumps(document()), content_type="application/json")


async def _cuts(request: web.Request) -> web.Response:
    held = await request.app[_CURRENT].get()
    cuts = await asyncio.to_thread(request.app[_APP].cuts)
    return _answer(request, held, [cut_json(c) for c in cuts], {"self": "/v1/cuts"})


async def _coverage(request: web.Request) -> web.Response:
    held = await request.app[_CURRENT].get()
    gaps = request.app[_APP].gaps(held.snapshot)
    data = {
        "coverage": coverage_json(held.snapshot),
        "gaps": gaps,
        "reconciliation": request.app[_APP].reconciliation(held.snapshot),
    }
    return _answer(request, held, data, {"self": "/v1/coverage"})


async def _wallet(request: web.Request) -> web.Response:
    held = await request.app[_CURRENT].get()
    holder = request.app[_APP].holder_in(held.snapshot, request.match_info["address"])
    data = await asyncio.to_thread(request.app[_APP].wallet_of, held.snapshot, holder)
    return _answer(request, held, data, {"self": f"/v1/wallets/{quote(holder, safe='')}", "cuts": "/v1/cuts"})


async def _stress_named(request: web.Request) -> web.Response:
    name = request.query.get("scenario", "")
    if not name:
        known = request.app[_APP].scenario_names()
        raise ConfigError("which scenario?", expected="?scenario=" + " | ".join(known), found="no scenario")
    return await _stress(request, request.app[_APP].scenario_by_name(name))


def _stress_link(request: web.Request) -> str:
    """The question again, as far as a link can ask it: a scenario that was posted stands in its answer."""
    return "/v1/stress" + (f"?scenario={quote(request.query['scenario'], safe='')}" if request.query else "")


async def _stress_posted(request: web.Request) -> web.Response:
    try:
        data = strict_json.loads(await request.read())
        json.dumps(data, ensure_ascii=False).encode()  # half a surrogate pair is no text, and no answer could repeat it
    except (ValueError, RecursionError, web.RequestPayloadError) as error:
        raise ConfigError("the body is not JSON", expected="a scenario as a JSON object", found=str(error)) from error
    if not isinstance(data, dict):
        raise ConfigError("the body is not a scenario", expected="a JSON object", found=type(data).__name__)
    return await _stress(request, parse_scenario(data))


async def _stress(request: web.Request, scenario: Scenario) -> web.Response:
    held = await request.app[_CURRENT].get()
    kept, key = request.app[_RESULTS], request.app[_APP].job(held.snapshot, scenario)
    async with request.app[_ONE]:  # one at a time: a stress uses every core it can get
        if key not in kept:
            kept[key] = await asyncio.to_thread(request.app[_APP].stress_of, held.snapshot, scenario)
            while len(kept) > KEPT_RESULTS:
                kept.popitem(last=False)
    return _answer(request, held, kept[key], {"self": _stress_link(request)}, kept[key]["degraded"])

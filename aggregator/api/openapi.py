"""The OpenAPI 3.1 document, generated from the types that are served."""

from __future__ import annotations

from typing import Any

import msgspec

from aggregator import __version__
from aggregator.api import types

_REF = "#/components/schemas/{name}"


def document() -> dict[str, Any]:
    served = [types.Envelope, types.WalletOut, types.CutOut, types.CoverageAnswer, types.Health, types.Problem,
              types.ScenarioIn]  # fmt: skip
    _, components = msgspec.json.schema_components(served, ref_template=_REF)
    address = {"name": "address", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1},
               "description": "EVM address (mixed case carries its EIP-55 checksum), or an account of an imported book",
               }  # fmt: skip
    named = {"name": "scenario", "in": "query", "required": True, "schema": {"type": "string", "minLength": 1}}
    body = {"required": True, "content": {"application/json": {"schema": _ref("ScenarioIn")}}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Spillover", "version": __version__, "license": {"name": "Apache-2.0"}},
        "paths": {
            "/healthz": {"get": _operation("Alive, and the cut it answers from", _ref("Health"), no_cut=False)},
            "/openapi.json": {"get": _operation("This document", {"type": "object"}, no_cut=False)},
            "/v1/cuts": {
                "get": _operation("Stored cuts, newest first", _data({"type": "array", "items": _ref("CutOut")}))
            },
            "/v1/coverage": {"get": _operation("Coverage, gaps and reconciliation", _data(_ref("CoverageAnswer")))},
            "/v1/wallets/{address}": {
                "get": _operation("One wallet on every chain", _data(_ref("WalletOut")), parameters=[address])
            },
            "/v1/stress": {
                "get": _operation("A named scenario on the last cut", _data(_STRESS), parameters=[named]),
                "post": _operation("Your scenario on the last cut", _data(_STRESS), requestBody=body),
            },
        },
        "components": {"schemas": components},
    }


_TEXT: dict[str, Any] = {"type": "string"}
_STRESS = {
    "type": "object",
    "description": "StressResult: rounds, losses, markets, wallets, convergence, coverage, gaps (docs/engine.md)",
    "properties": {
        "headline": _TEXT | {"description": "what is left uncovered, as far as what was read carries it"},
        "degraded": {"type": "array", "items": _TEXT, "description": "why figures are less than the whole"},
        "job": _TEXT | {"description": "sha-256 of snapshot, trust level, scenario and version, one a line"},
        "totals": {"type": "object", "additionalProperties": {"type": "number"}},
    },
    "required": ["headline", "degraded", "job", "totals"],
}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": _REF.format(name=name)}


def _data(schema: dict[str, Any]) -> dict[str, Any]:
    return {"allOf": [_ref("Envelope"), {"type": "object", "properties": {"data": schema}}]}


def _operation(summary: str, schema: dict[str, Any], *, no_cut: bool = True, **more: Any) -> dict[str, Any]:
    problem = {"content": {"application/problem+json": {"schema": _ref("Problem")}}}
    responses: dict[str, Any] = {"200": {"description": "done", "content": {"application/json": {"schema": schema}}}}
    if no_cut:  # one of the envelopes, which carry an ETag
        if "requestBody" not in more:
            responses["304"] = {"description": "what If-None-Match names is still the answer"}
        responses["503"] = {"description": "no cut is stored yet, or the database is away", **problem}
    if "requestBody" in more:
        responses["413"] = {"description": "the body is larger than 256 KiB", **problem}
    responses["422"] = {"description": "the request cannot be answered, or would be ignored in part", **problem}
    return {"summary": summary, "responses": responses, **more}

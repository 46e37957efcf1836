"""JSON from anybody: an object that names a key twice is refused, as TOML refuses it; which value counts is a guess."""

from __future__ import annotations

import json
from typing import Any


class RepeatedKeyError(ValueError):
    pass


def loads(text: str | bytes, **options: Any) -> Any:
    """`json.loads` with its options; RepeatedKeyError names a key that an object holds twice."""
    return json.loads(text, object_pairs_hook=_once, **options)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        keys = [key for key, _ in pairs]
        raise RepeatedKeyError(f"key {next(key for key in keys if keys.count(key) > 1)!r} is there twice")
    return out

"""Keys inside URLs stay inside: what may be shown of an endpoint, and a filter for text that came from outside."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from urllib.parse import quote, quote_plus, unquote, unquote_plus, urlsplit

from aggregator.core.errors import ConfigError

_URL = re.compile(r"(?:https?|wss?)://[^\s'\"<>)\]}]+", re.IGNORECASE)


def redact(url: str) -> str:
    """scheme://host/***; the host is all that is ever shown."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return "***"
    host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{host}{port}/***" if parts.scheme and host else "***"


def check_url(url: str) -> str:
    """An http(s) URL as given; ConfigError (without the URL) otherwise."""
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        good = False
    if not good:
        raise ConfigError("not an endpoint URL", expected="http://host... or https://host...", found=redact(url))
    return url


class Redactor:
    """Removes the secrets of some URLs, however they are written, and every URL, from text of others.

    Secrets: path segments of 5 characters and more, values of the query, name and password, and the two as the
    Authorization header carries them; each also percent-encoded and decoded, escaped as in JSON, in any case.
    """

    def __init__(self, urls: Iterable[str]) -> None:
        secrets: set[str] = set()
        for url in urls:
            parts = urlsplit(url)
            pieces = [piece for piece in parts.path.split("/") if len(piece) >= 5]
            values = [value for pair in parts.query.split("&") if (value := pair.partition("=")[2] or pair)]
            pieces += [value for value in values if len(value) >= 4]
            pieces += [part for part in (parts.username, parts.password) if part]
            for piece in pieces:
                plain = unquote(piece)
                secrets |= {piece, plain, unquote_plus(piece), quote(plain, safe=""), quote_plus(plain)}
            if parts.username or parts.password:
                pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
                secrets.add(b64encode(pair.encode()).decode().rstrip("="))
        self._secrets = _any_of(secrets)
        keys = {secret for secret in secrets if len(secret) >= 16 or (len(secret) >= 8 and re.search(r"\d", secret))}
        self._keys = _any_of(keys) if keys else None

    def data(self, text: str) -> str:
        """An answer that will be read and kept, without what can hardly be anything but a key.

        That is a secret of 16 characters, or of 8 with a digit: shorter words of a path (`deribit`) are data as well.
        """
        return self._keys.sub("***", text) if self._keys else text

    def __call__(self, text: str, limit: int = 256) -> str:
        """The text without secrets and URLs, cut to `limit` characters, control characters as spaces."""
        text = self._secrets.sub("***", text)
        text = _URL.sub(lambda found: redact(found.group()), text[: 4 * limit])
        text = "".join(c if c.isprintable() else " " for c in text)
        return text if len(text) <= limit else text[: limit - 1] + "…"


def _any_of(secrets: Iterable[str]) -> re.Pattern[str]:
    longest_first = sorted(secrets, key=lambda secret: (-len(secret), secret))
    written = ("".join(map(_written, secret)) for secret in longest_first)
    return re.compile("|".join(written) or "(?!)", re.IGNORECASE)


def _written(c: str) -> str:
    """A character as itself or as JSON may escape it."""
    return c if c.isascii() and c.isalnum() else rf"(?:\\?{re.escape(c)}|\\u{ord(c):04x})"

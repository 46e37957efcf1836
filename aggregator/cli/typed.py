"""Command lines as a person has to type them here: how this command is called, and with which configuration."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from itertools import pairwise
from pathlib import Path

_COMMAND = re.compile(r"`spillover ([a-z]+)([^`]*)`")
_WITHOUT_CONFIG = ("bench", "demo")


def command() -> str:
    """By its path where the shell does not find it."""
    me, found = Path(sys.argv[0]), shutil.which("spillover")
    if me.name != "spillover" or (found and Path(found).resolve() == me.resolve()):
        return "spillover"
    return shlex.quote(str(me))


def runnable(text: str) -> str:
    """Lines in backquotes, `spillover VERB ...`, completed with what the command at hand was given."""
    named = _named_config()

    def complete(found: re.Match[str]) -> str:
        config = f" --config {shlex.quote(named)}" if named and found[1] not in _WITHOUT_CONFIG else ""
        return f"`{command()} {found[1]}{found[2]}{config}`"

    return _COMMAND.sub(complete, text)


def _named_config() -> str:
    """What --config says among the words of this command, '' without it."""
    words = sys.argv[1:]
    for word, following in pairwise([*words, ""]):
        if word == "--config":
            return following
        if word.startswith("--config="):
            return word.removeprefix("--config=")
    return ""

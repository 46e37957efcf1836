"""The command in this process: as a person types it, without the second that a process of its own takes."""

from __future__ import annotations

import sys
from typing import NamedTuple

import pytest

from aggregator import cli


class Said(NamedTuple):
    code: int
    out: str
    err: str


def call(capsys: pytest.CaptureFixture[str], *words: str) -> Said:
    """Exit code and what was printed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["spillover", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    printed = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return Said(ended.value.code, printed.out, printed.err)

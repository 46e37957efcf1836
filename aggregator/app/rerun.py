"""The command line that makes a report once more."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from aggregator.app.config import Config
from aggregator.store.database import file_of, parse_url


def rerun_line(config: Config, scenario: str, cut_digest: str, report: Path, *, named_config: bool) -> str:
    """The command line of a stress, as it runs in the folder of its report, whatever folder it runs in now.

    A configuration that was named and says where its store is needs no other folder. All else is looked for in
    the folder of now, so that the line goes there first.
    """
    here, there = Path.cwd(), report.parent.resolve()
    file = file_of(parse_url(config.store.url))
    given = "SPILLOVER_STORE_URL" in os.environ
    moves = there != here and not (named_config and (given or file is None or file.is_absolute()))
    base = here if moves else there

    def seen(file: Path, from_: Path = base) -> str:
        return os.path.relpath(file.resolve(), from_)

    words = ["spillover", "stress", seen(Path(scenario)) if scenario.endswith(".toml") else scenario]
    words += ["--at", cut_digest[:12]]
    if named_config:
        words += ["--config", seen(config.path)]
    line = shlex.join(words)
    if given and file is not None:  # that of a server may hold a password
        line = f"SPILLOVER_STORE_URL={shlex.quote(f'sqlite:///{seen(file)}')} {line}"
    return f"cd {shlex.quote(seen(here, there))} && {line}" if moves else line

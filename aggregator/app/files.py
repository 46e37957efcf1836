"""Files that a command reads and writes beside its store."""

from __future__ import annotations

import errno
import os
import shlex
from pathlib import Path

from aggregator.core.errors import ConfigError


def writable(file: Path, *suffixes: str) -> Path:
    """A file that can be written; ConfigError before any work is done for it. No folder is made for it."""
    if not file.name.endswith(suffixes or "") or file.is_dir():
        wanted = f"a file name ending in {' or '.join(suffixes)}" if suffixes else "a file"
        raise ConfigError("cannot write there", expected=wanted, found=str(file))
    if not file.parent.is_dir():
        there = "no folder" if file.parent.exists() else "not there"
        raise ConfigError(
            "cannot write there",
            expected="a folder that exists",
            found=f"{file.parent}: {there}",
            fix=f"mkdir -p {shlex.quote(str(file.parent))}, or name another file",
        )
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise ConfigError(
            "cannot write there",
            expected="a folder that can be written",
            found=f"{file}: {os.strerror(errno.EACCES)}",
            fix="name a file in a folder of yours",
        )
    return file


def write(file: Path, data: bytes) -> None:
    """OSError names the file, on a full disk too."""
    try:
        file.write_bytes(data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from error


def beside(config: Path, file: str) -> Path:
    """A file named in a configuration: absolute, or relative to the configuration."""
    return Path(file) if Path(file).is_absolute() else config.parent / file

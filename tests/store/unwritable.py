"""A disk that takes no byte more, and a folder that this user may only read: for root, too."""

from __future__ import annotations

import importlib
import os
import pkgutil
import resource
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path

import adapters
import aggregator

NOBODY = 65534


@contextmanager
def full_disk() -> Iterator[None]:
    """No file grows: writing to it fails as on a disk without space, while empty files can still be made."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@cache
def _import_all() -> None:
    """What root alone may read, a Python in root's home too, is read before."""
    for package in (adapters, aggregator):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)


@contextmanager
def somebody_else() -> Iterator[None]:
    """Permissions bind: they do not bind root, who becomes nobody meanwhile."""
    root = os.geteuid() == 0
    if root:
        _import_all()
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def read_only_folder(*files: Path) -> Path:
    """A folder with copies of these that everybody may read and nobody but root write; the caller removes it."""
    folder = Path(tempfile.mkdtemp(prefix="spillover-"))
    for file in files:
        shutil.copyfile(file, folder / file.name)
        (folder / file.name).chmod(0o444)
    folder.chmod(0o555)
    return folder


def remove(folder: Path) -> None:
    folder.chmod(0o755)
    shutil.rmtree(folder)


STATES: dict[str, Callable[[], AbstractContextManager[None]]] = {"full": full_disk, "read-only": somebody_else}

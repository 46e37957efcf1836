"""Typed doors to numba, so that compiled kernels keep their signatures under ``mypy --strict``.

Kernels are serial and release the GIL.  Those that treat elements independently take a range, and
`in_chunks` gives long ranges to threads: the chunks are fixed by the length alone and no chunk sees another,
so nothing depends on the number of threads, which is numba's (``NUMBA_NUM_THREADS``).
``error_model="numpy"`` gives IEEE division, as numpy does.
"""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core.caching import FunctionCache

CHUNK = 65_536

Kernel = TypeVar("Kernel", bound=Callable[..., object])


class _SharedCache(FunctionCache):  # type: ignore[misc]  # numba has no types
    """Machine code on disk, read and written by one process at a time.

    numba's own cache names a file in its index before the file is there, and two processes that compile for two
    signatures give both the same name: the second would run what is older than its source, or made for other types.
    """

    def load_overload(self, *signature: Any) -> Any:
        with self._alone():
            return super().load_overload(*signature)

    def save_overload(self, *compiled: Any) -> None:
        with self._alone(), suppress(OSError):  # on a full disk every process compiles anew
            super().save_overload(*compiled)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        folder = Path(self.cache_path)
        try:
            import fcntl

            folder.mkdir(parents=True, exist_ok=True)
            file = (folder / "numba.lock").open("w")
            fcntl.flock(file, fcntl.LOCK_EX)
        except (ImportError, OSError):  # a system without such locks, a folder that is read only: as numba does it
            yield
            return
        with file:
            yield


def jit(function: Kernel) -> Kernel:
    """Compile a kernel, with the machine code cached on disk where that can be done.

    Numba caches beside the code or in the user's home. Where it can write neither, in a folder of this user's own
    among the temporary ones; where not even there, every process compiles anew.
    """
    kernel = numba.njit(nogil=True, error_model="numpy")(function)
    kernel._cache = _cache_of(function) or (_cache_elsewhere() and _cache_of(function)) or kernel._cache
    return cast(Kernel, kernel)


def _cache_of(function: Callable[..., object]) -> _SharedCache | None:
    try:
        return _SharedCache(function)
    except RuntimeError:  # no folder can be written
        return None


@cache
def _cache_elsewhere() -> bool:
    """Whether a folder among the temporary ones was made numba's. What lies in it is run: nobody else may write it."""
    user = os.geteuid() if hasattr(os, "geteuid") else None
    try:
        folder = Path(tempfile.gettempdir()) / f"spillover-{'' if user is None else user}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return False
    if user is not None and (not stat.S_ISDIR(found.st_mode) or found.st_uid != user or found.st_mode & 0o077):
        return False
    numba.config.CACHE_DIR = str(folder)
    return True


def in_chunks(work: Callable[[int, int], int], n: int) -> int:
    """Run `work(start, stop)` over [0, n) and return the smallest non-negative answer, or -1."""
    if n <= 2 * CHUNK:
        return work(0, n)
    starts = range(0, n, CHUNK)
    with ThreadPoolExecutor(min(len(starts), numba.config.NUMBA_NUM_THREADS)) as pool:
        answers = list(pool.map(lambda start: work(start, min(start + CHUNK, n)), starts))
    return min((answer for answer in answers if answer >= 0), default=-1)

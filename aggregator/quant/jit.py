"""Typed doors to numba, so that compiled kernels keep their signatures under ``mypy --strict``.

Kernels are serial and release the GIL.  Those that treat elements independently take a range, and
`in_chunks` gives long ranges to threads: the chunks are fixed by the length alone and no chunk sees another,
so nothing depends on the number of threads, which is numba's (``NUMBA_NUM_THREADS``).
``error_model="numpy"`` gives IEEE division, as numpy does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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
        with self._alone():
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
    """Compile a kernel, with the machine code cached on disk."""
    kernel = numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    kernel._cache = _SharedCache(function)
    return cast(Kernel, kernel)


def in_chunks(work: Callable[[int, int], int], n: int) -> int:
    """Run `work(start, stop)` over [0, n) and return the smallest non-negative answer, or -1."""
    if n <= 2 * CHUNK:
        return work(0, n)
    starts = range(0, n, CHUNK)
    with ThreadPoolExecutor(min(len(starts), numba.config.NUMBA_NUM_THREADS)) as pool:
        answers = list(pool.map(lambda start: work(start, min(start + CHUNK, n)), starts))
    return min((answer for answer in answers if answer >= 0), default=-1)

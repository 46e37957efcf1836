"""Typed doors to numba, so that compiled kernels keep their signatures under ``mypy --strict``.

Kernels are serial and release the GIL.  Those that treat elements independently take a range, and
`in_chunks` gives long ranges to threads: the chunks are fixed by the length alone and no chunk sees another,
so nothing depends on the number of threads, which is numba's (``NUMBA_NUM_THREADS``).
``error_model="numpy"`` gives IEEE division, as numpy does.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar, cast

import numba

CHUNK = 65_536

Kernel = TypeVar("Kernel", bound=Callable[..., object])


def jit(function: Kernel) -> Kernel:
    """Compile a kernel, with the machine code cached on disk."""
    return cast(Kernel, numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def in_chunks(work: Callable[[int, int], int], n: int) -> int:
    """Run `work(start, stop)` over [0, n) and return the smallest non-negative answer, or -1."""
    if n <= 2 * CHUNK:
        return work(0, n)
    starts = range(0, n, CHUNK)
    with ThreadPoolExecutor(min(len(starts), numba.config.NUMBA_NUM_THREADS)) as pool:
        answers = list(pool.map(lambda start: work(start, min(start + CHUNK, n)), starts))
    return min((answer for answer in answers if answer >= 0), default=-1)

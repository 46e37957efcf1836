"""Typed doors to numba, so that compiled kernels keep their signatures under ``mypy --strict``.

Kernels are serial and release the GIL: results cannot depend on a thread count, and a caller may run
several kernels on threads of its own.  ``error_model="numpy"`` gives IEEE division, as numpy does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, cast

import numba

Kernel = TypeVar("Kernel", bound=Callable[..., object])


def jit(function: Kernel) -> Kernel:
    """Compile a kernel, with the machine code cached on disk."""
    return cast(Kernel, numba.njit(cache=True, nogil=True, error_model="numpy")(function))

"""Refuse arrays by naming their first bad element."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError


def require(name: str, values: npt.ArrayLike, good: npt.ArrayLike, expected: str) -> None:
    """DomainError names the first element of `values` where `good`, of the same or a smaller shape, is not True."""
    given, fine = np.broadcast_arrays(np.asarray(values), np.asarray(good, dtype=np.bool_))
    if not np.all(fine):
        first = int(np.argmin(fine.ravel()))
        raise DomainError(
            f"{name}{index_text(first, given.shape)} is out of range",
            expected=expected,
            found=str(given.ravel()[first]),
        )


def index_text(position: int, shape: tuple[int, ...]) -> str:
    """Flat `position` as "[i, j]"; nothing for a scalar."""
    if not shape:
        return ""
    return "[" + ", ".join(str(int(i)) for i in np.unravel_index(position, shape)) + "]"

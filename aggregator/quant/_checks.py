"""Turn what a caller passes into float columns, and refuse it by naming the first bad element."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import ParamSpec, TypeVar

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError

Floats = npt.NDArray[np.float64]
_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


def floats(name: str, values: npt.ArrayLike) -> Floats:
    """`values` as float64, not copied if they are; DomainError if they are no real numbers."""
    if np.ma.isMaskedArray(values) and np.any(np.ma.getmaskarray(values)):
        hidden = np.ma.getmaskarray(values)
        raise DomainError(
            f"{name}{index_text(int(np.argmax(hidden.ravel())), hidden.shape)} is masked",
            expected="numbers throughout: what a mask hides would be computed with",
            found=f"{int(np.count_nonzero(hidden))} masked elements",
            fix="leave them out, or fill() them with what you mean",
        )
    try:
        given = np.asarray(values)
        if given.dtype.kind == "c":
            raise TypeError("complex numbers")
        return np.asarray(given, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise DomainError(f"{name} is not an array of numbers", expected="real numbers", found=str(error)) from None


def broadcast(**given: npt.ArrayLike) -> list[Floats]:
    """Read-only float64 views of one shape; DomainError names an input that is no number, or all shapes."""
    arrays = {name: floats(name, values) for name, values in given.items()}
    return [np.broadcast_to(array, joint_shape(**{n: a.shape for n, a in arrays.items()})) for array in arrays.values()]


def joint_shape(**shapes: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that all broadcast to; DomainError lists them when there is none."""
    try:
        return np.broadcast_shapes(*shapes.values())
    except ValueError:
        raise DomainError(
            "the inputs do not broadcast",
            expected="shapes as in numpy broadcasting",
            found=", ".join(f"{name} {shape}" for name, shape in shapes.items()),
        ) from None


def indices(name: str, values: npt.ArrayLike, size: int) -> npt.NDArray[np.int64]:
    """`values` as int64; DomainError names the first that is no whole number 0 to size - 1."""
    given = floats(name, values)
    require(
        name,
        given,
        (given >= 0) & (given < size) & (given == np.floor(given)),
        f"a whole number 0 to {size - 1}" if size else "nothing: there is nothing to point to",
    )
    return given.astype(np.int64)


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


def check_level(level: float) -> float:
    """The probability of being inside, from 0.5; DomainError for another, such as the share of the tail."""
    number = floats("level", level)
    if number.ndim or not 0.5 <= number < 1.0:
        raise DomainError(
            "level is out of range",
            expected="the probability of being inside, 0.5 <= level < 1",
            found=str(level),
            fix="for the worst 5 % give level 0.95",
        )
    return float(number)


def require_ints(**given: int | Sequence[int]) -> None:
    """DomainError names what is not a Python int: floats round, and numpy's integers wrap at 2^63 without a word."""
    for name, value in given.items():
        many = isinstance(value, Sequence)
        for i, item in enumerate(value if isinstance(value, Sequence) else (value,)):
            if type(item) is not int:
                raise DomainError(
                    f"{name}{f'[{i}]' if many else ''} is not an exact integer",
                    expected="a Python int",
                    found=f"{item!r} ({type(item).__name__})",
                    fix="read it as a whole number, or wrap it in int()",
                )


def index_text(position: int, shape: tuple[int, ...]) -> str:
    """Flat `position` as "[i, j]"; nothing for a scalar."""
    if not shape:
        return ""
    return "[" + ", ".join(str(int(i)) for i in np.unravel_index(position, shape)) + "]"


def representable(function: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """Raise DomainError where finite inputs lead to figures that float64 cannot hold, instead of a numpy warning."""

    @wraps(function)
    def guarded(*args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
        try:
            with np.errstate(over="raise", invalid="raise", divide="raise"):
                return function(*args, **kwargs)
        except (FloatingPointError, OverflowError) as error:
            raise DomainError(
                f"{function.__name__}: a figure does not fit float64",
                expected="inputs whose products and powers stay below 1e308",
                found=str(error),
                fix="drop the absurd input, or use larger units",
            ) from None

    return guarded


def require_version(of: str, version: int, last: int) -> None:
    """DomainError unless `version` is one of 1 to `last`."""
    if version not in range(1, last + 1):
        raise DomainError(f"no such version of {of}", expected=f"1 to {last}", found=str(version))

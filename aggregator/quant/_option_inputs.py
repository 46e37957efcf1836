"""Turn what a caller passes into flat, contiguous columns, and name the element that is out of domain."""

from __future__ import annotations

from typing import NoReturn

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.quant._checks import floats, index_text, joint_shape

Floats = npt.NDArray[np.float64]
Signs = npt.NDArray[np.int8]

_WORDS = {"c": 1, "call": 1, "p": -1, "put": -1}


def kind_sign(kind: npt.ArrayLike) -> Signs:
    """+1 for calls and -1 for puts, from +1/-1, booleans (True = call) or "c"/"call"/"p"/"put".

    Any shape; a column of objects, as of a data frame, may hold strings or signs.  DomainError names the first
    element that is none of these.
    """
    if np.ma.isMaskedArray(kind) and np.any(np.ma.getmaskarray(kind)):
        raise DomainError("kind is masked", expected="a kind for every option", fix="leave the masked ones out")
    given = np.asarray(kind)
    if given.dtype == np.bool_:
        return np.where(given, 1, -1).astype(np.int8)
    if given.dtype.kind in "UST":
        words = np.char.lower(given.astype(str))
        signs = np.zeros(given.shape, np.int8)
        for word, sign in _WORDS.items():
            signs[words == word] = sign
        wrong = signs == 0
    elif given.dtype == object:
        known = [_WORDS.get(x.lower(), 0) if isinstance(x, str) else x for x in given.ravel()]
        signs = np.array([x if x in (1, -1) else 0 for x in known], np.int8).reshape(given.shape)
        wrong = signs == 0
    else:
        wrong = (given != 1) & (given != -1)
        signs = np.where(wrong, 0, given).astype(np.int8)
    if np.any(wrong):
        first = int(np.argmax(wrong.ravel()))
        raise DomainError(
            f"kind{index_text(first, given.shape)} is neither a call nor a put",
            expected='+1, True, "c", "call" or -1, False, "p", "put"',
            found=str(given.ravel()[first]),
        )
    return signs


def columns(signs: Signs, **inputs: npt.ArrayLike) -> tuple[tuple[int, ...], Signs, Floats]:
    """Broadcast and flatten: (shape, signs of length n, matrix with one contiguous row of length n per input)."""
    arrays = {name: floats(name, value) for name, value in inputs.items()}
    shape = joint_shape(kind=signs.shape, **{name: array.shape for name, array in arrays.items()})
    rows = np.empty((len(arrays), *shape))
    for j, array in enumerate(arrays.values()):
        rows[j, ...] = array
    sign = np.ascontiguousarray(np.broadcast_to(signs, shape)).reshape(-1)
    return shape, sign, rows.reshape(len(arrays), sign.size)


def reject(position: int, shape: tuple[int, ...], rule: str, names: tuple[str, ...], rows: Floats) -> NoReturn:
    """Raise DomainError for the flat `position`, with every input of that element and the rule it breaks."""
    values = ", ".join(f"{name}={value:.17g}" for name, value in zip(names, rows[:, position], strict=True))
    raise DomainError(f"element{index_text(position, shape)} is out of domain", expected=rule, found=values)

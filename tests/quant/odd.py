"""What every array form owes to odd input, whatever it computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from aggregator.core.errors import DomainError

FOUR = np.ones(4)
Form = tuple[Callable[..., object], dict[str, float]]  # the function, and arguments that are fine


def figures(found: object) -> list[np.ndarray]:
    """Each result of a call as an array of floats."""
    return [np.asarray(x, dtype=np.float64) for x in (found if isinstance(found, tuple) else (found,))]


def assert_refused_by_index(form: Form, name: str, bad: float, index: str) -> None:
    """The third of four elements is bad, and the error says so; index is a regular expression."""
    function, inputs = form
    column = inputs[name] * FOUR
    column[2] = bad
    with pytest.raises(DomainError, match=index):
        function(**{**inputs, name: column})


def assert_broadcasts(form: Form, name: str) -> None:
    """Four elements give the scalar's figures four times, in any dtype, read-only or as a list; none give none."""
    function, inputs = form
    one = figures(function(**inputs))
    for column in (inputs[name] * FOUR, (inputs[name] * FOUR).astype(np.float32), list(inputs[name] * FOUR)):
        if isinstance(column, np.ndarray):
            column.flags.writeable = False
        for single, many in zip(one, figures(function(**{**inputs, name: column})), strict=True):
            assert many.shape == (4,)
            assert many == pytest.approx(np.broadcast_to(single, 4), rel=1e-5)
    for nothing in (np.ones(0), []):
        assert all(x.size == 0 for x in figures(function(**{**inputs, name: nothing})))


def assert_only_numbers(form: Form, name: str) -> None:
    function, inputs = form
    for bad in (["x"], [1j]):
        with pytest.raises(DomainError, match="not an array of numbers"):
            function(**{**inputs, name: bad})


def assert_misfits_refused(form: Form, name: str, other: str) -> None:
    function, inputs = form
    with pytest.raises(DomainError, match="do not broadcast"):
        function(**{**inputs, name: inputs[name] * FOUR, other: inputs[other] * np.ones(3)})

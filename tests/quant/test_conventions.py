"""One order, one word, one meaning: the table in docs/methods/README.md against every public function of `quant`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from aggregator.core.errors import DomainError
from aggregator.quant import (
    backtests,
    compound_loss,
    hedging,
    perps,
    ssvi,
    svi,
    systemic_risk,
    tail_risk,
)
from aggregator.quant.risk_surface import book

ROOT = Path(__file__).parents[2]
ROWS = re.findall(r"^\| *(\w*) *\| (`[^|]*`) \| ", (ROOT / "docs/methods/README.md").read_text(encoding="utf-8"), re.M)
PLACES = [(place, word) for place, words in ROWS for word in re.findall(r"`(\w+)`", words)]
ORDER = {word: int(place) for place, word in PLACES if place.isdigit()}
KEYWORD, LAST, NEVER = ({word for place, word in PLACES if place == name} for name in ("keyword", "last", "never"))
KIND = inspect.Parameter


def public_functions() -> Iterator[tuple[str, Callable[..., object]]]:
    """Every function, method and constructor that a caller of `quant` is meant to use."""
    for path in sorted((ROOT / "aggregator/quant").glob("*.py")):
        if path.stem.startswith("_") or path.stem.endswith("_reference"):
            continue
        module = import_module(f"aggregator.quant.{path.stem}")
        for name, thing in vars(module).items():
            if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
                continue
            if inspect.isfunction(thing):
                yield f"{path.stem}.{name}", thing
            elif inspect.isclass(thing):
                for inner, method in vars(thing).items():
                    if inspect.isfunction(method) and not inner.startswith("_"):
                        yield f"{path.stem}.{name}.{inner}", method


FUNCTIONS = dict(public_functions())


def test_the_table_is_read_and_the_walk_finds_the_library() -> None:
    assert ORDER["kind"] < ORDER["F"] < ORDER["K"] == ORDER["k"] < ORDER["T_yr"] < ORDER["sigma"] < ORDER["r"]
    assert {"level"} == LAST
    assert {"vol", "weight", "cost_frac"} < KEYWORD
    assert {"tail", "rate", "volatility"} < NEVER
    assert len(FUNCTIONS) > 180
    used = {name for function in FUNCTIONS.values() for name in inspect.signature(function).parameters}
    known = {word for place, word in PLACES if place != "never"}
    assert known <= used, f"words that no function has: {known - used}"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_have_their_place_and_word(name: str) -> None:
    parameters = list(inspect.signature(FUNCTIONS[name]).parameters.values())
    words = [p.name for p in parameters]
    assert not NEVER & set(words)
    by_place = [p.name for p in parameters if p.kind is KIND.POSITIONAL_OR_KEYWORD]
    ranks = [ORDER[word] for word in by_place if word in ORDER]
    assert ranks == sorted(ranks), words
    for p in parameters:
        if p.name in KEYWORD:
            assert p.kind is KIND.KEYWORD_ONLY, words
    if set(by_place) & LAST:
        assert by_place[-1] in LAST, words
    if "forecast" in words and "realised" in words:
        assert words.index("realised") < words.index("forecast")
    if "account" in words and "market" in words:
        assert words.index("account") < words.index("market")


K, VOL = np.linspace(-0.2, 0.2, 7), np.full(7, 0.5)
LOSSES = np.random.default_rng(0).normal(size=400)
OLD_CALLS = {
    "svi.fit(k, vol, T)": lambda: svi.fit(K, VOL, 0.1),  # type: ignore[misc]
    "svi.fit with vol for T": lambda: svi.fit(K, T_yr=VOL, vol=0.1),  # type: ignore[arg-type]
    "ssvi.fit(k, vol, T)": lambda: ssvi.fit(K, VOL, VOL / 5),  # type: ignore[misc]
    "book(kind, K, T, F, amount, sigma)": lambda: book("c", 100.0, 0.1, 100.0, 1.0, 0.5),  # type: ignore[call-arg]
    "leland by round trip": lambda: hedging.leland(0.5, 0.004, 0.01),  # type: ignore[misc]
    "whalley_wilmott(S, K, T, sigma, cost, aversion)": lambda: hedging.whalley_wilmott(1, 1, 1, 1, 0.01, 1),  # type: ignore[misc]
    "kupiec by rate": lambda: backtests.kupiec(3, 250, 0.01),
    "christoffersen by rate": lambda: backtests.christoffersen([0, 1, 0], 0.01),
    "traffic_light by rate": lambda: backtests.traffic_light(3, 250, 0.01),
    "acerbi_szekely by tail": lambda: backtests.acerbi_szekely(LOSSES, 1.0, 2.0, 0.025),
    "historical by tail": lambda: tail_risk.historical(LOSSES, 0.01),
    "empirical_mes by tail": lambda: systemic_risk.empirical_mes(LOSSES, LOSSES, 0.05),
    "gaussian_covar by tail": lambda: systemic_risk.gaussian_covar(0.5, 0.2, 0.05),
    "loss_quantile by tail": lambda: compound_loss.loss_quantile(compound_loss.panjer_poisson(2, [0, 1], 30), 0.01),
    "cross_margin without markets": lambda: perps.cross_margin([0], [1.0], [100.0], [0.1], [10.0]),  # type: ignore[call-arg]
}


@pytest.mark.parametrize("call", OLD_CALLS)
def test_a_call_in_another_order_or_meaning_fails_loudly(call: str) -> None:
    with pytest.raises((TypeError, DomainError)):
        OLD_CALLS[call]()

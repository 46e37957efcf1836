"""Costs grow with what is done: one call with its account, a book with its rows."""

from __future__ import annotations

import tracemalloc
from time import process_time

import numpy as np

from aggregator.core.rows import Exposure
from aggregator.core.scenario import Scenario
from aggregator.engine.blow import blow_of
from aggregator.engine.liquidate import wave
from aggregator.engine.load import from_snapshot
from aggregator.engine.state import State
from benchmarks.engine import crowd
from tests.engine.test_load import DOLLAR, MORPHO, WAD, X, ladder, snapshot


def test_one_accounts_call_touches_its_own_legs_alone() -> None:
    """200,000 legs are 800 kB of codes; one account has at most five of them."""
    book = crowd(70_000)
    state = State(book, blow_of(book, Scenario("s")))
    answers = state.answers()
    for account in (0, 69_999):
        tracemalloc.start()
        try:
            wave(state, np.array([account]), answers)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 100_000


def seconds_to_load(holders: int) -> float:
    rows = ladder()
    for i in range(holders):
        rows.append(Exposure(MORPHO, f"0x{i:040x}", "", X, "collateral", WAD))
        rows.append(Exposure(MORPHO, f"0x{i:040x}", "", DOLLAR, "debt", 10**14))
    best = float("inf")
    for snap in (snapshot(rows), snapshot(rows)):
        begun = process_time()
        assert from_snapshot(snap).accounts == holders + 7
        best = min(best, process_time() - begun)
    return best


def test_a_book_takes_no_more_than_its_rows() -> None:
    """Four times the holders; a search of all holders for each of them would take sixteen times as long."""
    few, many = seconds_to_load(2_500), seconds_to_load(10_000)
    assert many < 8 * few

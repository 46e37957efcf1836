"""Counts can be subtracted and scaled, for estimates of a run."""

from aggregator.chain.stats import Stats


def test_an_estimate_from_a_slice():
    stats = Stats(calls=100, batches=3, seconds={"calls": 1.0})
    mark = stats.copy()
    stats.calls += 50
    stats.batches += 1
    stats.spent("calls", 0.5)
    stats.spent("logs", 0.25)
    whole = stats.since(mark).times(2.5)
    assert (whole.calls, whole.batches, whole.requests) == (125, 3, 0)
    assert whole.seconds == {"calls": 1.25, "logs": 0.625}
    assert stats.plain()["calls_s"] == 1.5
    assert mark.calls == 100

"""VaR and ES backtests: published regions and tables, worked statistics, simulated critical values."""

import numpy as np
import pytest
from scipy import stats

from aggregator.core.errors import DomainError
from aggregator.quant.backtests import acerbi_szekely, christoffersen, kupiec, traffic_light

# Kupiec 1995, 95 % non-rejection regions: (rate, days, rejected at or below, rejected at or above).
REGIONS = [
    (0.01, 510, 1, 11), (0.01, 1000, 4, 17), (0.025, 255, 2, 12), (0.025, 510, 6, 21), (0.025, 1000, 15, 36),
    (0.05, 255, 6, 21), (0.05, 510, 16, 36), (0.05, 1000, 37, 65), (0.075, 255, 11, 28), (0.075, 510, 27, 51),
    (0.075, 1000, 59, 92), (0.1, 255, 16, 36), (0.1, 510, 38, 65), (0.1, 1000, 81, 120),
]  # fmt: skip
# (days, violations, rate, LR, p): worked twice; 1e-8.
WORKED = [
    (250, 0, 0.01, 5.025167926750726, 0.02498150305344973), (250, 2, 0.01, 0.10843521623679919, 0.7419327009526281),
    (250, 6, 0.01, 3.5553547710617437, 0.0593536189722889), (250, 10, 0.01, 12.955491062356018, 0.0003189845082133835),
    (1000, 15, 0.01, 2.189248388847858, 0.1389771183180088), (500, 25, 0.05, 0.0, 1.0),
    (252, 20, 0.05, 3.9125508275532184, 0.04792680100008753),
]  # fmt: skip


@pytest.mark.parametrize(("rate", "days", "low", "high"), REGIONS)
def test_kupiec_regions(rate: float, days: int, low: int, high: int) -> None:
    rejected = [n for n in range(days + 1) if kupiec(n, days, 1 - rate).p_value < 0.05]
    assert max(n for n in rejected if n < rate * days) == low
    assert min(n for n in rejected if n > rate * days) == high


def test_the_one_published_row_that_does_not_reproduce() -> None:
    """T = 255, p = 1 % is printed as N < 7 with no lower bound; N = 0 is rejected too, at 2.4 %."""
    assert kupiec(0, 255, 0.99).p_value < 0.05
    assert kupiec(7, 255, 0.99).p_value < 0.05 <= kupiec(6, 255, 0.99).p_value


@pytest.mark.parametrize(("days", "violations", "rate", "statistic", "p"), WORKED)
def test_kupiec_statistic(days: int, violations: int, rate: float, statistic: float, p: float) -> None:
    found = kupiec(violations, days, 1 - rate)
    assert found.statistic == pytest.approx(statistic, abs=1e-8)
    assert found.p_value == pytest.approx(p, abs=1e-8)


def test_christoffersen_statistics() -> None:
    flags = np.zeros(250, int)
    flags[[10, 11, 12, 50, 51, 90, 140, 200, 201, 240]] = 1
    found = christoffersen(flags, 0.99)
    assert found.transitions.tolist() == [[233, 6], [6, 4]]
    assert found.unconditional.statistic == pytest.approx(12.955491062356018, abs=1e-8)
    assert found.independence.statistic == pytest.approx(14.365484585187318, abs=1e-8)
    assert found.joint.statistic == pytest.approx(27.320975647543335, abs=1e-8)
    assert found.joint.p_value == pytest.approx(1.1676845071678608e-06, rel=1e-8)


def test_christoffersen_at_its_limits_and_its_size() -> None:
    quiet = christoffersen(np.zeros(100, bool), 0.99)
    assert quiet.independence.statistic == 0
    assert quiet.joint.statistic == pytest.approx(-200 * np.log(0.99))
    rng = np.random.default_rng(3)
    rejected = [christoffersen(rng.random(1000) < 0.05, 0.95).joint.p_value < 0.05 for _ in range(400)]
    assert 0.02 < np.mean(rejected) < 0.10


def test_basel_table() -> None:
    """Basel Committee 1996, table 2: cumulative probabilities in per cent, zones and add-ons."""
    table = {
        0: 8.11,
        1: 28.58,
        2: 54.32,
        3: 75.81,
        4: 89.22,
        5: 95.88,
        6: 98.63,
        7: 99.60,
        8: 99.89,
        9: 99.97,
        10: 99.99,
    }
    plus = {4: 0.0, 5: 0.40, 6: 0.50, 7: 0.65, 8: 0.75, 9: 0.85, 10: 1.0, 30: 1.0}
    for n, percent in table.items():
        found = traffic_light(n)
        assert 100 * found.cumulative == pytest.approx(percent, abs=0.0051)
        assert found.zone == ("green" if n <= 4 else "yellow" if n <= 9 else "red")
    assert {n: traffic_light(n).plus for n in plus} == plus
    assert np.isnan(traffic_light(3, 500).plus)


def test_acerbi_szekely_critical_values_by_simulation() -> None:
    """T = 250, alpha = 2.5 %: the 5 % critical value is about -0.70, published; -0.706 normal, -0.74 Student 5."""
    rng = np.random.default_rng(8)
    var, es = stats.norm.ppf(0.975), stats.norm.pdf(stats.norm.ppf(0.975)) / 0.025
    assert (var, es) == (pytest.approx(1.9599639845400545, abs=1e-9), pytest.approx(2.337802792201413, abs=1e-9))
    z2 = np.array([acerbi_szekely(rng.standard_normal(250), var, es).z2 for _ in range(6000)])
    assert np.quantile(z2, 0.05) == pytest.approx(-0.70, abs=0.06)
    assert z2.mean() == pytest.approx(0, abs=0.02)


# Student degrees of freedom: 5 % critical value of Z2 at T = 250, alpha = 2.5 %, by simulation elsewhere.
STUDENT = {3: -0.8124, 5: -0.7406, 10: -0.7151, 100: -0.7022}


@pytest.mark.parametrize(("freedom", "critical"), STUDENT.items())
def test_acerbi_szekely_critical_value_hardly_depends_on_the_tail(freedom: int, critical: float) -> None:
    """Published -0.70 and -1.8 (0.01 %) across tails; Z2 is drawn from the binomial count and the law of the tail."""
    rng = np.random.default_rng(freedom)
    alpha, days = 0.025, 250
    law = stats.t(freedom)
    var = -law.ppf(alpha)
    es = law.pdf(var) / alpha * (freedom + var**2) / (freedom - 1)
    counts = rng.binomial(days, alpha, 200_000)
    tail = law.ppf(alpha * rng.random(int(counts.sum())))
    ends = np.concatenate([[0], np.cumsum(counts)])
    sums = np.diff(np.concatenate([[0.0], np.cumsum(tail)])[ends])
    z2 = sums / (days * alpha * es) + 1.0
    assert np.quantile(z2, 0.05) == pytest.approx(critical, abs=0.02)
    # the library's statistic of one such year is the same sum
    year = np.concatenate([tail[: counts[0]], np.full(days - counts[0], var)])
    assert acerbi_szekely(year, var, es).z2 == pytest.approx(z2[0], rel=1e-9)


def test_acerbi_szekely_one_in_ten_thousand() -> None:
    rng = np.random.default_rng(11)
    var, es = stats.norm.ppf(0.975), stats.norm.pdf(stats.norm.ppf(0.975)) / 0.025
    counts = rng.binomial(250, 0.025, 500_000)
    tail = np.cumsum(stats.norm.ppf(0.025 * rng.random(int(counts.sum()))))
    sums = np.diff(np.concatenate([[0.0], tail])[np.concatenate([[0], np.cumsum(counts)])])
    # published -1.8; a simulation elsewhere gives -1.756
    assert np.quantile(sums / (250 * 0.025 * es) + 1.0, 1e-4) == pytest.approx(-1.78, abs=0.08)
    assert acerbi_szekely(np.full(250, var), var, es).z2 == 1.0


def test_acerbi_szekely_by_hand() -> None:
    found = acerbi_szekely([-3.0, 1.0, -2.0, 0.5], 1.0, 2.0, level=0.75)
    assert found.z1 == pytest.approx(1 - (3 + 2) / 2 / 2)
    assert found.z2 == pytest.approx(1 - (3 + 2) / 2 / (4 * 0.25))
    assert found.rejected
    none = acerbi_szekely([1.0, 2.0], 1.0, 2.0)
    assert np.isnan(none.z1)
    assert none.z2 == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda: kupiec(3, 2, 0.99),
        lambda: kupiec(0, 0, 0.99),
        lambda: kupiec(0, 10, 0.01),
        lambda: christoffersen([0, 2], 0.9),
        lambda: christoffersen([1], 0.9),
        lambda: traffic_light(-1),
        lambda: acerbi_szekely([1.0], 2.0, 1.0),
        lambda: acerbi_szekely([float("nan")], 1.0, 1.0),
    ],
)
def test_bad_input_is_refused(call: object) -> None:
    with pytest.raises(DomainError):
        call()  # type: ignore[operator]

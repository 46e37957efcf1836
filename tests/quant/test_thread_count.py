"""Nothing depends on the number of threads: two processes, one thread and two, give the same bits."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

WORK = """
import hashlib
import numpy as np
from aggregator.quant import black, implied_vol, inverse
from aggregator.quant.clearing import clear, system
from aggregator.quant.debtrank import leverage_matrix, linear_debtrank
from aggregator.quant.network import edges_to_matrix

rng = np.random.default_rng(1)
n = 200_001
F, T, vol = rng.uniform(1500, 4500, n), rng.uniform(0.005, 1, n), rng.uniform(0.2, 1.5, n)
K, kind = F * np.exp(vol * np.sqrt(T) * rng.normal(size=n)), np.where(rng.random(n) < 0.5, 1, -1)
price = black.black76_price(kind, F, K, T, vol)
edges = edges_to_matrix(np.arange(60_000) % 2000, rng.integers(0, 1000, 60_000) * 2,
                        rng.lognormal(0, 1, 60_000), 2001)
edges.setdiag(0)
found = [*black.first_greeks(kind, F, K, T, vol, 0.03), *black.greeks(kind, F, K, T, vol, 0.03), price,
         *inverse.inverse_first_greeks(kind, F, K, T, vol), *implied_vol.implied_vol(kind, price, F, K, T)]
owed = edges.sum(axis=1)
for leak in (0.3, 0.0015):
    found += clear(system(edges, 0.9 * leak * owed * rng.uniform(0.4, 1.4, 2001), leak * owed))[:5]
found += linear_debtrank(leverage_matrix(edges, 1.5 * owed + 1), np.eye(2001)[:20])[:2]
digest = hashlib.sha256()
for array in found:
    digest.update(np.ascontiguousarray(array).tobytes())
print(digest.hexdigest())
"""


def digest_with(threads: str) -> str:
    names = ("NUMBA_NUM_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    found = subprocess.run(
        [sys.executable, "-c", WORK],
        env={**os.environ, **dict.fromkeys(names, threads)},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stderr
    return found.stdout.strip()


def test_one_thread_and_two_give_the_same_bits() -> None:
    with ThreadPoolExecutor() as at_once:
        one, two = at_once.map(digest_with, ("1", "2"))
    assert len(one) == 64
    assert one == two

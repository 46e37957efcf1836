"""Decoding a Multicall3 answer of 2,000 sub-calls x 6 uint256, against eth-abi on the same bytes.

decode.columns  to exact columns: four 64-bit limbs and the 32 bytes of every word (`decode_aggregate3`, `Words.gather`)
decode.ints     further, to one tuple of Python ints per sub-call, as adapters get them (`Function.decode`); here making
                the ints themselves is most of the time, hence the lower bar

eth-abi's result is the same list of tuples in both. Results are compared before anything is timed. CPU seconds, best of
several taken in turns, so that other processes do not count.
"""

from __future__ import annotations

import argparse
import json
import random
from functools import partial
from typing import Any

import numpy as np
from eth_abi.abi import decode, encode

from aggregator.chain.abi import function
from aggregator.chain.aggregate3 import decode_aggregate3
from aggregator.chain.decode import Words, uint_values
from benchmarks._pairs import pair_seconds, row

COUNT, WIDTH = 2_000, 6
TYPES = ["uint256"] * WIDTH
ACCOUNT_DATA = function(f"getUserAccountData(address)({','.join(TYPES)})")
BITS = (30, 60, 75, 90, 256)


def answer_of(count: int) -> bytes:
    """aggregate3's answer to `count` calls, as the node would give it."""
    rng = random.Random(1)
    rows = [[rng.getrandbits(rng.choice(BITS)) for _ in TYPES] for _ in range(count)]
    return encode(["(bool,bytes)[]"], [[(True, encode(TYPES, row)) for row in rows]])


def columns(answer: bytes) -> Words:
    _, answers = decode_aggregate3(answer, COUNT)
    return Words.gather(answers.buffer, answers.start, WIDTH)


def ints(answer: bytes) -> list[Any]:
    _, answers = decode_aggregate3(answer, COUNT)
    return list(ACCOUNT_DATA.decode(answers, np.arange(COUNT)))


def reference(answer: bytes) -> list[Any]:
    (members,) = decode(["(bool,bytes)[]"], answer)
    return [decode(TYPES, data) for _, data in members]


def benchmarks(quick: bool = True) -> list[dict[str, Any]]:
    """name, what, ours and reference in CPU seconds, ratio = reference / ours, bar, and whether it holds."""
    answer = answer_of(COUNT)
    expected, words = reference(answer), columns(answer)
    exact = zip(*(uint_values(*words.column(i)) for i in range(WIDTH)), strict=True)
    if not expected == ints(answer) == list(exact):
        raise AssertionError("the decoders disagree")
    rows = []
    for name, decoder, bar in (("columns", columns, 50.0), ("ints", ints, 25.0)):
        seconds = pair_seconds(partial(decoder, answer), partial(reference, answer), 20 if quick else 100)
        what = f"{COUNT:,} sub-calls x {WIDTH} uint256 to exact {name}: eth-abi / ours"
        rows.append(row(f"decode.{name}", what, *seconds, bar))
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="more rounds")
    print(json.dumps(benchmarks(quick=not parser.parse_args().full), indent=1))

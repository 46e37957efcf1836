"""How each protocol judges a position and what a liquidation takes, repays and leaves: one file per mechanism.

`get("aave_v3@3.6")` gives the rule a Market row names. An unknown name gives None: never guess a version.
"""

from __future__ import annotations

from aggregator.rules.aave_v3 import AaveV3
from aggregator.rules.aave_v3_batch import floored
from aggregator.rules.base import Calls, CannotJudgeError, LendingRule, Rule, Taken, WouldRevertError
from aggregator.rules.comet import Comet
from aggregator.rules.compound_v2 import CompoundV2
from aggregator.rules.lyra_v1 import LyraV1
from aggregator.rules.morpho_blue import MorphoBlue
from aggregator.rules.perp_curie import PerpCurie

__all__ = [
    "Calls", "CannotJudgeError", "LendingRule", "Rule", "Taken", "WouldRevertError", "floored", "get", "lending",
]  # fmt: skip

_AAVE_V3 = tuple(AaveV3((3, minor)) for minor in range(8))
_LENDING: tuple[LendingRule, ...] = (*_AAVE_V3, MorphoBlue(), CompoundV2(), Comet())
_ALL: tuple[Rule, ...] = (*_LENDING, LyraV1(), PerpCurie())
_BY_NAME = {rule.name: rule for rule in _ALL}
_LENDING_BY_NAME = {rule.name: rule for rule in _LENDING}


def get(name: str) -> Rule | None:
    return _BY_NAME.get(name)


def lending(name: str) -> LendingRule | None:
    """The rule if it is a lending one, which has the array form `batch`."""
    return _LENDING_BY_NAME.get(name)

"""How each protocol judges a position and what a liquidation takes, repays and leaves: one file per mechanism.

`get("aave_v3@3.6")` gives the rule a Market row names. An unknown name gives None: never guess a version.
"""

from __future__ import annotations

from aggregator.rules.aave_v3 import AaveV3
from aggregator.rules.base import Calls, CannotJudgeError, Rule, Taken, WouldRevertError
from aggregator.rules.comet import Comet
from aggregator.rules.compound_v2 import CompoundV2
from aggregator.rules.morpho_blue import MorphoBlue

__all__ = ["NAMES", "Calls", "CannotJudgeError", "Rule", "Taken", "WouldRevertError", "get"]

_ALL: tuple[Rule, ...] = (*(AaveV3((3, minor)) for minor in range(8)), MorphoBlue(), CompoundV2(), Comet())
_RULES = {rule.name: rule for rule in _ALL}
NAMES: tuple[str, ...] = tuple(sorted(_RULES))


def get(name: str) -> Rule | None:
    return _RULES.get(name)

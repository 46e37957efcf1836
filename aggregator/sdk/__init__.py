"""All that an adapter may see."""

from aggregator.sdk.adapter import Adapter, Answer, Call, Log, Revert, Target, View, Where

__all__ = ["Adapter", "Answer", "Call", "Log", "Revert", "Target", "View", "Where"]

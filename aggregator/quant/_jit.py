"""The old name of `aggregator.quant.jit`, until the engine imports that one."""

from aggregator.quant.jit import in_chunks, jit

__all__ = ["in_chunks", "jit"]

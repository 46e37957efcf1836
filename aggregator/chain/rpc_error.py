"""What a node's error means for us: a verdict of the contract, a refusal of the size, or a reason to ask another node.

Nodes agree on few codes (3 = execution reverted, -32601, -32602); the rest is told apart by words, in this file alone.
"""

from __future__ import annotations

import re
from typing import Any

from aggregator.core.errors import SourceError


def _words(*phrases: str) -> re.Pattern[str]:
    return re.compile("|".join(phrases), re.IGNORECASE)


_EXECUTION = _words(
    "revert", "out ?of ?gas", "invalid ?opcode", "opcode ?not ?found", "invalid ?fe ?opcode", "stack ?(under|over)flow",
    "invalid ?jump", "gas required exceeds", "vm execution", "evm error", "bad instruction", "write protection",
    "gas limit is too low", "intrinsic gas", "max code size", "insufficient balance for transfer", "return ?data out",
)  # fmt: skip
_TOO_BIG = _words(
    "too (large|big|long)", "response size", "exceeds? (the )?(max|limit|allowed)", "size limit", "execution aborted",
    "(execution|query) timeout", "timed out", "batch (size|limit)", "too many (calls|requests) in batch",
    "batch.*(exceed|maximum|not supported|disabled)",
)  # fmt: skip
_LOG_RANGE = _words(
    r"more than \d+ (results|logs)", "too many (results|logs|blocks)", "(block|log|query) ?range",
    "range (is )?(too|limit)",
    "response size", "too (large|wide)", "limited to", "max(imum)? (block|range)", "(query )?time(d )?out",
    "up to a", "please narrow", "logs matched", "block ?count",
)  # fmt: skip
_RATE = _words(
    "rate.?limit", "too many requests", "request rate", "per second", "compute units", "throttl", "quota",
    "daily (request|limit)", "capacity",
)  # fmt: skip
_NO_STATE = _words(
    r"(header|block|hash)\b.{0,80}not ?(be )?found", "unknown block", "could not find block", "missing trie node",
    "(state|data|backend).{0,30}(unavailable|not available)", "no state", "prun(ed|ing)", "state histor(y|ies)",
    "histor(y|ical) ?state", "historical rpc", "not (currently )?canonical", "beyond head", "out ?of ?range",
    "distance to target block", "resource not found", "hash is not", "unfinali[sz]ed",
    "does not have the (requested )?block",
)  # fmt: skip
_BLOCK_OBJECT = _words(
    "unmarshal", "invalid type", "did not match", "blockhash", "invalid (argument|block|params)", "expected a string",
    "parse", "hex string", "deserial",
)  # fmt: skip


class RpcError(SourceError):
    """The node's own error object. In a batch it is a value beside the results; alone it is raised.

    data: revert bytes where the node gives them, b'' otherwise.
    """

    def __init__(self, code: int, message: str, data: bytes = b"") -> None:
        super().__init__(f"the node answered error {code}", found=message)
        self.rpc_code, self.rpc_message, self.data = code, message, data

    @property
    def is_rate(self) -> bool:
        return self.rpc_code in (429, -32029, -32097) or (
            not self.is_execution and bool(_RATE.search(self.rpc_message)) and not _LOG_RANGE.search(self.rpc_message)
        )

    @property
    def is_execution(self) -> bool:
        """The contract's verdict (or its gas): another node would say the same."""
        return self.rpc_code == 3 or (
            self.rpc_code not in (-32601, -32602) and bool(_EXECUTION.search(self.rpc_message))
        )

    @property
    def is_node_trouble(self) -> bool:
        """The node cannot be asked this, or not now: says nothing about the contract."""
        return self.is_no_state or self.is_rate or self.rpc_code in (-32600, -32601, -32602, -32700)

    @property
    def is_no_state(self) -> bool:
        """This node lacks the block or its state: another may have it."""
        return not self.is_execution and bool(_NO_STATE.search(self.rpc_message))

    @property
    def is_too_big(self) -> bool:
        return self.rpc_code == 413 or bool(_TOO_BIG.search(self.rpc_message))

    @property
    def is_size(self) -> bool:
        """Refused for its size or duration, and not by the contract."""
        return not self.is_execution and (self.is_too_big or self.is_log_range)

    def is_final(self, method: str) -> bool:
        """Whether asking again, here or elsewhere, is of no use."""
        if method == "eth_getLogs" and self.is_log_range:
            return True
        return self.is_execution or self.is_too_big or (self.rpc_code in (-32601, -32602) and not self.is_no_state)

    @property
    def is_batch_limit(self) -> bool:
        """The node refuses JSON-RPC batches of this length."""
        return "batch" in self.rpc_message.lower()

    @property
    def is_log_range(self) -> bool:
        return self.rpc_code in (413, -32005, -32008, -32614) or bool(_LOG_RANGE.search(self.rpc_message))

    @property
    def is_block_object(self) -> bool:
        """A node that does not know EIP-1898 stumbles over the object in the place of the block number."""
        return not self.is_execution and (self.rpc_code == -32602 or bool(_BLOCK_OBJECT.search(self.rpc_message)))


def parse_error(error: Any) -> RpcError:
    """JSON-RPC error member -> RpcError, whatever its shape."""
    if not isinstance(error, dict):
        return RpcError(-32000, str(error)[:1024])
    code, message, data = error.get("code"), error.get("message"), error.get("data")
    if isinstance(data, dict):
        data = data.get("data") or data.get("result")
    raw = b""
    if isinstance(data, str):
        hexed = data.removeprefix("Reverted ").removeprefix("0x")
        try:
            raw = bytes.fromhex(hexed)
        except ValueError:
            message = f"{message} ({data[:256]})"
    return RpcError(code if isinstance(code, int) else -32000, str(message)[:1024], raw[:65536])

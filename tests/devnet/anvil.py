"""One local chain: an anvil process on loopback, with blocks that are the same on every run.

Every transaction is mined alone in a block one second after the last, and `warp` moves the clock, so a sequence of
calls gives the same block hashes whenever it runs. (`evm_increaseTime` has no effect in this mode.)
"""

from __future__ import annotations

import atexit
import http.client
import json
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self

from tests.devnet.artifacts import Abi, Artifact
from tests.devnet.contract import Block, Contract, Reverted, checksum, constructor_data
from tests.devnet.toolchain import Toolchain

GENESIS = 1_750_000_000
ETHER = 10**18
STATES_IN_MEMORY = "4000"  # with a bound given, anvil writes none to disk; beyond it old blocks cannot be called
# A shell that runs its arguments and kills them when our end of the pipe goes, however we end.
UNTIL_STDIN_CLOSES = ("sh", "-c", '"$@" & read -r _; kill -9 $!', "sh")
MULTICALL3 = "0xcA11bde05977b3631167028862bE2a173976CA11"
MULTICALL3_ABI: Abi = [
    {
        "type": "function",
        "name": "aggregate3",
        "stateMutability": "payable",
        "inputs": [
            {
                "name": "calls",
                "type": "tuple[]",
                "components": [
                    {"name": "target", "type": "address"},
                    {"name": "allowFailure", "type": "bool"},
                    {"name": "callData", "type": "bytes"},
                ],
            }
        ],
        "outputs": [
            {
                "name": "returnData",
                "type": "tuple[]",
                "components": [{"name": "success", "type": "bool"}, {"name": "returnData", "type": "bytes"}],
            }
        ],
    }
]


@dataclass(frozen=True)
class Receipt:
    """A transaction that succeeded. `logs` are as the node gives them."""

    hash: str
    block_number: int
    gas_used: int
    contract_address: str | None
    logs: list[dict[str, Any]] = field(repr=False)


@dataclass(frozen=True)
class Tx:
    """A transaction to be sent in bulk; order holds only between those of one sender."""

    sender: str
    to: str
    data: str
    gas: int = 1_000_000


class Chain:
    """An anvil process. A context manager; also stopped when Python exits."""

    def __init__(
        self, tools: Toolchain, chain_id: int = 1, multicall: bool = True, timestamp: int = GENESIS, *flags: str
    ) -> None:
        self.chain_id = chain_id
        self._connection: http.client.HTTPConnection | None = None
        command = [
            *UNTIL_STDIN_CLOSES, str(tools.anvil()), "--host", "127.0.0.1", "--port", "0", "--chain-id", str(chain_id),
            "--timestamp", str(timestamp), "--auto-impersonate", "--base-fee", "0", "--gas-price", "0",
            "--gas-limit", "60000000", "--order", "fifo", "--no-mining", "--no-request-size-limit",
            "--prune-history", STATES_IN_MEMORY, *flags,
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        atexit.register(self.stop)
        self.port = self._listening_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.rpc("anvil_setBlockTimestampInterval", 1)
        self.rpc("anvil_setLoggingEnabled", False)
        self.accounts = [checksum(a) for a in self.rpc("eth_accounts")]
        self.owner = self.accounts[0]
        self.multicall: Contract | None = self._install_multicall(tools) if multicall else None

    def _listening_port(self) -> int:
        assert self.process.stdout is not None
        said = []
        for line in self.process.stdout:
            said.append(line)
            if line.startswith("Listening on "):
                return int(line.rsplit(":", 1)[1])
        raise RuntimeError("anvil did not start: " + "".join(said)[-600:])

    def _install_multicall(self, tools: Toolchain) -> Contract:
        artifact = Artifact("Multicall3", MULTICALL3_ABI, tools.multicall3(), {})
        deployed = self.deploy(artifact).address
        self.rpc("anvil_setCode", MULTICALL3, self.rpc("eth_getCode", deployed, "latest"))
        return self.at(MULTICALL3, MULTICALL3_ABI)

    def stop(self) -> None:
        """End the process; harmless when it has ended already."""
        atexit.unregister(self.stop)
        if self._connection:
            self._connection.close()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                pipe.close()
        self.process.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- JSON-RPC -----------------------------------------------------------------------------------------
    def rpc(self, method: str, *params: Any) -> Any:
        """The result of one request. Raises Reverted for an EVM revert, RuntimeError for any other error."""
        return _result(method, self._post(_request(0, method, params)))

    def batch(self, calls: Sequence[tuple[str, Sequence[Any]]]) -> list[Any]:
        """Results of many requests in one HTTP exchange, in order; raises for the first that failed."""
        answers = self._post([_request(i, method, params) for i, (method, params) in enumerate(calls)])
        by_id = {a["id"]: a for a in answers}
        return [_result(method, by_id[i]) for i, (method, _) in enumerate(calls)]

    def _post(self, body: Any) -> Any:
        if self._connection is None:
            self._connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            self._connection.request("POST", "/", json.dumps(body), {"Content-Type": "application/json"})
            return json.loads(self._connection.getresponse().read())
        except (OSError, http.client.HTTPException):
            self._connection.close()
            self._connection = None
            raise

    # -- contracts ----------------------------------------------------------------------------------------
    def deploy(self, artifact: Artifact, *args: Any, libraries: Mapping[str, str] | None = None) -> Contract:
        """Create a contract. `libraries` maps names to addresses for the artifact's holes."""
        linked = artifact.linked(libraries or {})
        receipt = self.send(None, linked.bytecode + constructor_data(linked.abi, args), None, 40_000_000)
        assert receipt.contract_address
        return self.at(receipt.contract_address, linked.abi)

    def at(self, address: str, abi: Abi | Artifact) -> Contract:
        """A handle on what is already there."""
        return Contract(self, checksum(address), abi.abi if isinstance(abi, Artifact) else abi)

    def send(self, to: str | None, data: str, sender: str | None = None, gas: int = 15_000_000) -> Receipt:
        """Mine one transaction in its own block. Raises Reverted with the contract's reason."""
        tx = {"from": sender or self.owner, "data": data, "gas": hex(gas), "gasPrice": "0x0"}
        if to:
            tx["to"] = to
        raw = self._mined(self.rpc("eth_sendTransaction", tx))
        if int(raw["status"], 16) != 1:
            before = hex(int(raw["blockNumber"], 16) - 1)
            self.rpc("eth_call", tx, before)
            raise Reverted(f"{raw['transactionHash']} failed, and succeeds when replayed on the block before")
        return _receipt(raw)

    def _mined(self, transaction: str) -> dict[str, Any]:
        """Mine now and give the receipt. (Automine answers before its block is finished; a revert then finds half.)"""
        self.rpc("evm_mine")
        raw: dict[str, Any] | None = self.rpc("eth_getTransactionReceipt", transaction)
        if raw is None:
            raise RuntimeError(f"transaction {transaction} was not mined: {self.rpc('txpool_status')}")
        return raw

    def eth_call(self, to: str, data: str, block: Block = "latest", sender: str | None = None) -> bytes:
        """Raw answer of a call at a block number, tag or 0x block hash. Raises Reverted."""
        tx = {"to": to, "data": data, **({"from": sender} if sender else {})}
        return bytes.fromhex(self.rpc("eth_call", tx, _block(block))[2:])

    def send_all(self, txs: Iterable[Tx], chunk: int = 1_000) -> int:
        """Send many transactions a block-full at a time, check every receipt, and return their number.

        Order holds only between transactions of one sender. Raises Reverted naming the first that failed.
        """
        txs = list(txs)
        nonces: dict[str, int] = {}
        senders = sorted({t.sender for t in txs})
        for sender, nonce in zip(
            senders, self._chunked([("eth_getTransactionCount", [s, "latest"]) for s in senders], chunk), strict=True
        ):
            nonces[sender] = int(nonce, 16)
        hashes: list[str] = []
        with self.automine_off():
            for start in range(0, len(txs), chunk):
                part = []
                for t in txs[start : start + chunk]:
                    part.append(("eth_sendTransaction", [_bulk_tx(t, nonces[t.sender])]))
                    nonces[t.sender] += 1
                hashes += self.batch(part)
                self._mine_pool()
        for t, raw in zip(txs, self._chunked([("eth_getTransactionReceipt", [h]) for h in hashes], chunk), strict=True):
            if raw is None or int(raw["status"], 16) != 1:
                where = hex(int(raw["blockNumber"], 16) - 1) if raw else "latest"
                self.rpc("eth_call", {"from": t.sender, "to": t.to, "data": t.data}, where)
                raise Reverted(f"bulk transaction from {t.sender} to {t.to} failed: {raw}")
        return len(txs)

    def _chunked(self, calls: Sequence[tuple[str, Sequence[Any]]], chunk: int) -> list[Any]:
        return [r for start in range(0, len(calls), chunk) for r in self.batch(calls[start : start + chunk])]

    def _mine_pool(self) -> None:
        while True:
            status = self.rpc("txpool_status")
            if int(status["pending"], 16) + int(status["queued"], 16) == 0:
                return
            self.rpc("evm_mine")

    @contextmanager
    def automine_off(self) -> Iterator[None]:
        """Transactions sent by hand wait in the pool until somebody mines: so they do always; `send` mines its own."""
        yield

    # -- accounts, time, history --------------------------------------------------------------------------
    def fund(self, *addresses: str, wei: int = ETHER) -> None:
        """Set native balances."""
        if addresses:
            self._chunked([("anvil_setBalance", [a, hex(wei)]) for a in addresses], 1_000)

    def block(self, at: Block = "latest") -> dict[str, Any]:
        """Header of a block, with `number` and `timestamp` as integers beside `hash` and `parentHash`."""
        if isinstance(at, str) and len(at) == 66:
            raw = self.rpc("eth_getBlockByHash", at, False)
        else:
            raw = self.rpc("eth_getBlockByNumber", hex(at) if isinstance(at, int) else at, False)
        if raw is None:
            raise LookupError(f"chain {self.chain_id} has no block {at}")
        return {**raw, "number": int(raw["number"], 16), "timestamp": int(raw["timestamp"], 16)}

    def logs(self, first: int = 0, last: Block = "latest", **fields: Any) -> list[dict[str, Any]]:
        """eth_getLogs; `fields` are `address` and `topics`."""
        span = {"fromBlock": hex(first), "toBlock": hex(last) if isinstance(last, int) else last}
        answer: list[dict[str, Any]] = self.rpc("eth_getLogs", {**span, **fields})
        return answer

    def warp(self, seconds: int) -> None:
        """Mine one block `seconds` after the latest."""
        self.rpc("evm_setNextBlockTimestamp", self.block()["timestamp"] + seconds)
        self.rpc("evm_mine")

    def mine(self, blocks: int = 1) -> None:
        """Mine empty blocks, one second apart."""
        self.rpc("anvil_mine", hex(blocks))

    def reorg(self, depth: int) -> None:
        """Replace the last `depth` blocks by empty ones with other hashes at the same height."""
        self.rpc("anvil_setBlockTimestampInterval", 2)  # else a block that was empty would come back the same
        self.rpc("anvil_reorg", depth, [])
        self.rpc("anvil_setBlockTimestampInterval", 1)

    def snapshot(self) -> str:
        """A mark to `revert` to; reverting to it uses it up."""
        mark: str = self.rpc("evm_snapshot")
        return mark

    def revert(self, mark: str) -> None:
        """Back to the mark: state, blocks and clock."""
        if not self.rpc("evm_revert", mark):
            raise RuntimeError(f"anvil knows no snapshot {mark}")

    @contextmanager
    def undone(self) -> Iterator[Self]:
        """Whatever happens inside is undone at the end."""
        mark = self.snapshot()
        try:
            yield self
        finally:
            self.revert(mark)


def start_chains(tools: Toolchain, *chain_ids: int) -> dict[int, Chain]:
    """Several chains with the same genesis time; none is left running if one does not start."""
    chains: dict[int, Chain] = {}
    try:
        for chain_id in chain_ids:
            chains[chain_id] = Chain(tools, chain_id)
    except BaseException:
        for chain in chains.values():
            chain.stop()
        raise
    return chains


def _request(identifier: int, method: str, params: Sequence[Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": identifier, "method": method, "params": list(params)}


def _result(method: str, answer: Mapping[str, Any]) -> Any:
    if "error" not in answer:
        return answer["result"]
    error = answer["error"]
    message = f"{method}: {error.get('message')} {error.get('data') or ''}".strip()
    raise (Reverted if error.get("code") == 3 or "revert" in message.lower() else RuntimeError)(message)


def _receipt(raw: Mapping[str, Any]) -> Receipt:
    created = raw.get("contractAddress")
    return Receipt(
        raw["transactionHash"], int(raw["blockNumber"], 16), int(raw["gasUsed"], 16),
        checksum(created) if created else None, raw["logs"],
    )  # fmt: skip


def _bulk_tx(tx: Tx, nonce: int) -> dict[str, str]:
    return {
        "from": tx.sender, "to": tx.to, "data": tx.data,
        "gas": hex(tx.gas), "gasPrice": "0x0", "nonce": hex(nonce),
    }  # fmt: skip


def _block(block: Block) -> Any:
    if isinstance(block, int):
        return hex(block)
    return {"blockHash": block} if len(block) == 66 else block

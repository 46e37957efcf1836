"""A contract handle that needs no web3: ABI in, Python values out, at any block."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from eth_abi.abi import decode, encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from tests.devnet.artifacts import Abi

if TYPE_CHECKING:
    from tests.devnet.anvil import Chain, Receipt

Block = int | str


class Reverted(Exception):  # noqa: N818 - a state, as the EVM calls it
    """A call or transaction that the contract refused; the message carries its reason."""


@dataclass(frozen=True, eq=False)
class Contract:
    """One address with an ABI on one chain.

    A function is named by its name, or by its full signature (`"liquidate(address,address)"`) where overloads
    have equally many arguments. A struct argument is a tuple in the ABI's order, or a dict by field name.
    """

    chain: Chain
    address: str
    abi: Abi = field(repr=False)

    def call(self, function: str, *args: Any, block: Block = "latest", sender: str | None = None) -> Any:
        """The contract's answer at `block` (number, tag or 0x hash): the value, or a tuple of several.

        Addresses come back checksummed, bytes as bytes, structs as tuples. Raises Reverted.
        """
        entry, data = self._prepare(function, args)
        answer = self.chain.eth_call(self.address, data, block, sender)
        values = _decode(entry["outputs"], answer)
        return values[0] if len(values) == 1 else values

    def read(self, function: str, *args: Any, block: Block = "latest") -> dict[str, Any]:
        """As `call`, but a dict by the names that the ABI gives; a struct answer is unpacked to its fields."""
        entry, data = self._prepare(function, args)
        outputs = entry["outputs"]
        values = _decode(outputs, self.chain.eth_call(self.address, data, block, None))
        if len(outputs) == 1 and outputs[0]["type"] == "tuple":
            outputs, values = outputs[0]["components"], values[0]
        return {o["name"] or str(i): _named(o, v) for i, (o, v) in enumerate(zip(outputs, values, strict=True))}

    def send(self, function: str, *args: Any, sender: str | None = None, gas: int = 15_000_000) -> Receipt:
        """Mine one transaction in its own block and return its receipt. Raises Reverted with the reason."""
        return self.chain.send(self.address, self.encode(function, *args), sender, gas)

    def encode(self, function: str, *args: Any) -> str:
        """Call data as 0x hex."""
        return self._prepare(function, args)[1]

    def events(self, logs: Receipt | Iterable[Mapping[str, Any]], name: str) -> list[dict[str, Any]]:
        """Arguments of every `name` event that this contract emitted, in log order."""
        entry = next(e for e in self.abi if e["type"] == "event" and e["name"] == name)
        topic = "0x" + keccak(text=_signature(entry)).hex()
        raw = logs if isinstance(logs, Iterable) else logs.logs
        mine = (log for log in raw if log["address"].lower() == self.address.lower())
        return [_decode_event(entry, log) for log in mine if log["topics"] and log["topics"][0] == topic]

    def _prepare(self, function: str, args: Sequence[Any]) -> tuple[dict[str, Any], str]:
        entry = self._find(function, len(args))
        values = [_positional(i, a) for i, a in zip(entry["inputs"], args, strict=True)]
        body = encode([_type(i) for i in entry["inputs"]], values)
        return entry, "0x" + (keccak(text=_signature(entry))[:4] + body).hex()

    def _find(self, function: str, count: int) -> dict[str, Any]:
        if "(" in function:
            found = [e for e in self.abi if e["type"] == "function" and _signature(e) == function]
        else:
            named = [e for e in self.abi if e["type"] == "function" and e["name"] == function]
            found = [e for e in named if len(e["inputs"]) == count]
            if named and not found:
                raise TypeError(f"{_signature(named[0])} was given {count} arguments")
        if len({_signature(e) for e in found}) != 1:
            raise LookupError(f"{function}: {len(found)} such functions; give the full signature of one that exists")
        return found[0]


def constructor_data(abi: Abi, args: Sequence[Any]) -> str:
    """ABI-encoded constructor arguments as hex without 0x."""
    inputs: list[dict[str, Any]] = next((e["inputs"] for e in abi if e["type"] == "constructor"), [])
    values = [_positional(i, a) for i, a in zip(inputs, args, strict=True)]
    return encode([_type(i) for i in inputs], values).hex()


def _type(item: Mapping[str, Any]) -> str:
    kind: str = item["type"]
    if kind.startswith("tuple"):
        return "(" + ",".join(_type(c) for c in item["components"]) + ")" + kind.removeprefix("tuple")
    return kind


def _signature(entry: Mapping[str, Any]) -> str:
    return f"{entry['name']}({','.join(_type(i) for i in entry['inputs'])})"


def _positional(item: Mapping[str, Any], value: Any) -> Any:
    kind = item["type"]
    if kind.endswith("]"):
        element = {**item, "type": kind[: kind.rindex("[")]}
        return [_positional(element, v) for v in value]
    if kind != "tuple":
        return value.address if isinstance(value, Contract) else value
    parts = item["components"]
    if isinstance(value, Mapping):
        value = [value[p["name"]] for p in parts]
    return tuple(_positional(p, v) for p, v in zip(parts, value, strict=True))


def _named(item: Mapping[str, Any], value: Any) -> Any:
    kind = item["type"]
    if kind == "tuple":
        return {p["name"]: _named(p, v) for p, v in zip(item["components"], value, strict=True)}
    if kind.startswith("tuple"):
        element = {**item, "type": kind[: kind.rindex("[")]}
        return [_named(element, v) for v in value]
    return value


def _decode(outputs: Sequence[Mapping[str, Any]], data: bytes) -> tuple[Any, ...]:
    types = [_type(o) for o in outputs]
    return tuple(_checksummed(o, v) for o, v in zip(outputs, decode(types, data), strict=True))


def _checksummed(item: Mapping[str, Any], value: Any) -> Any:
    kind = item["type"]
    if kind.endswith("]"):
        element = {**item, "type": kind[: kind.rindex("[")]}
        return tuple(_checksummed(element, v) for v in value)
    if kind == "tuple":
        return tuple(_checksummed(p, v) for p, v in zip(item["components"], value, strict=True))
    return checksum(value) if kind == "address" else value


def _decode_event(entry: Mapping[str, Any], log: Mapping[str, Any]) -> dict[str, Any]:
    indexed = [i for i in entry["inputs"] if i["indexed"]]
    plain = [i for i in entry["inputs"] if not i["indexed"]]
    values = dict(zip((i["name"] for i in plain), _decode(plain, bytes.fromhex(log["data"][2:])), strict=True))
    for item, topic in zip(indexed, log["topics"][1:], strict=True):
        raw = bytes.fromhex(topic[2:])
        hashed = item["type"] in ("string", "bytes") or item["type"].endswith(("]", "tuple"))
        values[item["name"]] = raw if hashed else _decode([item], raw)[0]
    return {i["name"]: values[i["name"]] for i in entry["inputs"]}


@cache
def checksum(address: str) -> str:
    """EIP-55 form of an address."""
    return to_checksum_address(address)

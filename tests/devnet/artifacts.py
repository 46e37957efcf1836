"""A contract as its compiler left it: ABI, creation bytecode, and the holes for its libraries."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

Abi = list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Artifact:
    """`holes` maps a library's name to the byte offsets in `bytecode` where its 20-byte address belongs."""

    name: str
    abi: Abi
    bytecode: str
    holes: Mapping[str, tuple[int, ...]]

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> Artifact:
        """Read a hardhat artifact, or an entry of our own compiler output."""
        holes = {
            library: tuple(place["start"] for place in places)
            for by_library in raw.get("linkReferences", {}).values()
            for library, places in by_library.items()
        }
        return cls(raw["contractName"], raw["abi"], raw["bytecode"], holes)

    def linked(self, libraries: Mapping[str, str]) -> Artifact:
        """Fill the holes. Raises KeyError naming the library that is missing."""
        code = bytearray(self.bytecode.encode())
        for library, offsets in self.holes.items():
            if library not in libraries:
                raise KeyError(f"{self.name} needs library {library}")
            for offset in offsets:
                start = 2 + 2 * offset
                code[start : start + 40] = libraries[library].lower().removeprefix("0x").encode()
        return replace(self, bytecode=code.decode(), holes={})

    def with_events_of(self, other: Artifact) -> Artifact:
        """Add events that a library declares on this contract's behalf."""
        return replace(self, abi=self.abi + [entry for entry in other.abi if entry["type"] == "event"])

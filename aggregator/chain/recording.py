"""Everything a run read, in one file, keyed by what was asked and not by how: batching and order leave no trace.

gzip of JSON lines. Line 1: {format, version, spillover, blocks, entries, sha256 of the rest}. Further lines, sorted:
  ["call", source, block hash, to, calldata, answer]            answer 0x-hex, or {"reason": .., "no_code": ..}
  ["logs", source, block hash, from, to, addresses, topics, logs]
  ["http", source, sequence, "METHOD path", body, answer text]
No URL, no key, no bytecode: the node's addresses and `eth_getCode` never reach a recorder.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import zlib
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import orjson

from aggregator.chain.answers import Failure
from aggregator.chain.events import RawLog
from aggregator.chain.logs import LogFilter
from aggregator.core.block import BlockRef
from aggregator.core.errors import RecordingError

FORMAT, VERSION = "spillover-recording", 1
_LogKey = tuple[str, str, tuple[str, ...], tuple[tuple[str, ...] | None, ...]]


class Recording:
    """Answers by question. Written to while a run reads, saved, loaded, asked by a replay."""

    def __init__(self) -> None:
        self.name = "recording"
        self._blocks: set[BlockRef] = set()
        self._calls: dict[tuple[str, str], dict[tuple[str, bytes], bytes | Failure]] = {}
        self._logs: dict[_LogKey, dict[tuple[int, int], list[RawLog]]] = {}
        self._http: dict[tuple[str, int], dict[tuple[str, str], str]] = {}

    # -- blocks

    def add_block(self, at: BlockRef) -> None:
        self._blocks.add(at)

    def blocks(self, source: str = "") -> list[BlockRef]:
        """Recorded blocks of a source (of all by default), oldest first."""
        return sorted(b for b in self._blocks if not source or b.source == source)

    def at(self, source: str, number: int | None = None) -> BlockRef:
        """The youngest recorded block of a source, or the one at a number. RecordingError if there is none."""
        found = [b for b in self.blocks(source) if number is None or b.number == number]
        if not found:
            raise self.lacks(source, f"a block{'' if number is None else f' {number}'}")
        return found[-1]

    # -- calls

    def add_calls(self, at: BlockRef, pairs: Iterable[tuple[str, bytes]], answers: Iterable[bytes | Failure]) -> None:
        known = self._calls.setdefault((at.source, at.hash), {})
        for pair, answer in zip(pairs, answers, strict=True):
            first = known.setdefault(pair, answer)
            if first != answer and not (isinstance(first, Failure) and isinstance(answer, Failure)):
                raise RecordingError(
                    f"two answers to one call of {pair[0]} at block {at.number}",
                    expected="a block that does not change",
                    found=f"calldata 0x{pair[1][:36].hex()}",
                    fix="an endpoint lies or serves other state: check with `spillover doctor`",
                )

    def calls(self, at: BlockRef) -> dict[tuple[str, bytes], bytes | Failure]:
        """Answers at a block by (to, calldata)."""
        return self._calls.get((at.source, at.hash), {})

    # -- logs

    def add_logs(self, at: BlockRef, wanted: LogFilter, low: int, logs: list[RawLog], high: int | None = None) -> None:
        ranges = self._logs.setdefault((at.source, at.hash, wanted.addresses, wanted.topics), {})
        ranges[low, at.number if high is None else high] = logs

    def logs(self, at: BlockRef, wanted: LogFilter, low: int, high: int | None = None) -> list[RawLog]:
        """Logs of [low, high], from the recorded ranges of that filter at that block which together cover it.

        high: the block's own number by default.
        """
        ranges = self._logs.get((at.source, at.hash, wanted.addresses, wanted.topics), {})
        high = at.number if high is None else high
        out: list[RawLog] = []
        missing = low
        for begin, end in sorted(ranges):
            if begin <= missing <= min(end, high):
                out += [log for log in ranges[begin, end] if missing <= log.block <= high]
                missing = end + 1
        if missing > high:
            return out
        who = ", ".join(wanted.addresses[:2]) + (", .." if len(wanted.addresses) > 2 else "") or "any contract"
        raise self.lacks(at.source, f"logs of {who} in [{missing}, {high}]")

    # -- http

    def add_http(self, at: BlockRef, question: str, body: str, text: str) -> None:
        self._http.setdefault((at.source, at.number), {})[question, body] = text

    def http(self, at: BlockRef, question: str, body: str) -> str:
        try:
            return self._http[at.source, at.number][question, body]
        except KeyError:
            raise self.lacks(at.source, f"{question} {body}".strip()) from None

    def http_digest(self, at: BlockRef) -> str:
        """sha256 over the answers of a venue at one sequence, in order of the questions."""
        answers = sorted(self._http.get((at.source, at.number), {}).items())
        return hashlib.sha256(orjson.dumps(answers)).hexdigest()

    def lacks(self, source: str, what: str) -> RecordingError:
        return RecordingError(
            f"{self.name} lacks an answer of {source}",
            expected=what[:300],
            found=", ".join(f"{b.source}@{b.number}" for b in self.blocks()) or "no block",
            fix="record again with this version and configuration",
        )

    # -- file

    def _entries(self) -> list[bytes]:
        out: list[list[Any]] = []
        for (source, block), calls in self._calls.items():
            for (to, data), answer in calls.items():
                plain = answer._asdict() if isinstance(answer, Failure) else "0x" + answer.hex()
                out.append(["call", source, block, to, "0x" + data.hex(), plain])
        for (source, block, addresses, topics), ranges in self._logs.items():
            for (low, high), logs in ranges.items():
                rows = [
                    [log.address, ["0x" + t.hex() for t in log.topics], "0x" + log.data.hex(), *log[3:]] for log in logs
                ]
                out.append(["logs", source, block, low, high, addresses, topics, rows])
        for (source, number), answers in self._http.items():
            out += [["http", source, number, *question, text] for question, text in answers.items()]
        return sorted(orjson.dumps(entry) for entry in out)

    def save(self, path: Path) -> None:
        """Write whole or not at all; the same answers give the same bytes."""
        entries = self._entries()
        payload = b"".join(entry + b"\n" for entry in entries)
        header = {
            "format": FORMAT, "version": VERSION, "spillover": _version(), "blocks": [list(b) for b in self.blocks()],
            "entries": len(entries), "sha256": hashlib.sha256(payload).hexdigest(),
        }  # fmt: skip
        buffer = io.BytesIO()
        with gzip.GzipFile(fileobj=buffer, mode="wb", filename="", mtime=0) as file:
            file.write(orjson.dumps(header) + b"\n" + payload)
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_name(path.name + ".part")
        half.write_bytes(buffer.getvalue())
        half.replace(path)

    @classmethod
    def load(cls, path: Path) -> Recording:
        """RecordingError names what is wrong: missing, not gzip, cut off, altered, of another format or version."""
        out = cls()
        out.name = path.name
        try:
            head, _, payload = gzip.decompress(path.read_bytes()).partition(b"\n")
            header = orjson.loads(head)
        except FileNotFoundError:
            raise _corrupt(path, "no such file") from None
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise _corrupt(path, f"cannot be unpacked ({type(error).__name__})") from None
        if not isinstance(header, dict) or header.get("format") != FORMAT:
            raise _corrupt(path, "another kind of file")
        if header.get("version") != VERSION:
            raise _corrupt(path, f"format version {header.get('version')}")
        if hashlib.sha256(payload).hexdigest() != header.get("sha256"):
            raise _corrupt(path, "content that does not match its checksum")
        try:
            out._blocks = {BlockRef(*block) for block in header["blocks"]}
            lines = payload.split(b"\n")[:-1]
            for line in lines:
                out._take(orjson.loads(line))
            if len(lines) != header["entries"]:
                raise ValueError
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            raise _corrupt(path, "an entry that cannot be read") from None
        return out

    def _take(self, entry: list[Any]) -> None:
        kind, source = entry[0], entry[1]
        if kind == "call":
            block, to, data, plain = entry[2:]
            answer = Failure(**plain) if isinstance(plain, dict) else bytes.fromhex(plain[2:])
            self._calls.setdefault((source, block), {})[to, bytes.fromhex(data[2:])] = answer
        elif kind == "logs":
            block, low, high, addresses, topics, rows = entry[2:]
            key = (source, block, tuple(addresses), tuple(None if w is None else tuple(w) for w in topics))
            self._logs.setdefault(key, {})[low, high] = [
                RawLog(a, tuple(bytes.fromhex(t[2:]) for t in words), bytes.fromhex(d[2:]), *rest)
                for a, words, d, *rest in rows
            ]
        elif kind == "http":
            number, question, body, text = entry[2:]
            self._http.setdefault((source, number), {})[question, body] = text
        else:
            raise ValueError(kind)


def _version() -> str:
    try:
        return version("spillover")
    except PackageNotFoundError:
        return ""


def _corrupt(path: Path, found: str) -> RecordingError:
    return RecordingError(
        f"recording {path.name} cannot be used",
        expected=f"an unaltered {FORMAT} of version {VERSION}",
        found=found,
        fix="restore the file or record again",
    )

"""What can go wrong, as one tree.

    SpilloverError
    ├── ConfigError        a file, flag or address a person wrote            exit code 2
    │   └── ScenarioError  a stress that contradicts itself or the book
    ├── ImportDataError    a CSV or Parquet book that cannot be read whole
    ├── SourceError        an endpoint or venue that cannot be trusted or reached
    │   ├── WrongChainError, BlockMismatchError, MalformedAnswerError, RateLimitedError
    │   └── RecordingError a recording that is corrupt or lacks an answer
    ├── StoreError         a database we must not touch (newer schema, torn run)
    │   └── DatabaseError  what its driver said: not there, full, damaged
    └── DomainError        a number outside the domain of a formula

A thing we could not read is not an error: it is a `core.rows.Gap`.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class SpilloverError(Exception):
    """Base of all errors meant for a person.

    code:     stable identifier, `spillover explain CODE` prints its page
    title:    what every error of the code has in common, as a sentence (RFC 9457)
    expected, found, fix: the three things every message must say
    """

    code = "SPL-000"
    title = "The command could not be completed."
    exit_code = 1

    def __init__(self, message: str, *, expected: str = "", found: str = "", fix: str = "") -> None:
        super().__init__(message)
        self.message, self.expected, self.found, self.fix = message, expected, found, fix

    def __str__(self) -> str:
        parts = [self.message]
        parts += [
            f"{label}: {text}"
            for label, text in (("expected", self.expected), ("found", self.found), ("fix", self.fix))
            if text
        ]
        return "\n  ".join(parts)

    def problem(self) -> dict[str, str]:
        """RFC 9457 members plus `code`, `expected`, `found`, `fix`."""
        return {
            "type": f"urn:spillover:{self.code}",
            "title": self.title,
            "detail": self.message,
            "code": self.code,
            "expected": self.expected,
            "found": self.found,
            "fix": self.fix,
        }


class ConfigError(SpilloverError):
    code = "SPL-100"
    title = "The configuration or the request cannot be used."
    exit_code = 2


class ScenarioError(ConfigError):
    code = "SPL-110"
    title = "The scenario cannot be applied."


class ImportDataError(SpilloverError):
    code = "SPL-120"
    title = "The book cannot be imported."
    exit_code = 2


class SourceError(SpilloverError):
    code = "SPL-200"
    title = "A source cannot be read."


class WrongChainError(SourceError):
    code = "SPL-210"
    title = "An endpoint serves another chain."


class BlockMismatchError(SourceError):
    code = "SPL-220"
    title = "Endpoints disagree about a block."


class MalformedAnswerError(SourceError):
    code = "SPL-230"
    title = "An answer cannot be decoded."


class RateLimitedError(SourceError):
    code = "SPL-240"
    title = "A source refuses for its rate."


class RecordingError(SourceError):
    code = "SPL-250"
    title = "A recording cannot be used."


class StoreError(SpilloverError):
    code = "SPL-300"
    title = "The store cannot answer."


class DatabaseError(StoreError):
    pass


class DomainError(SpilloverError, ValueError):
    code = "SPL-400"
    title = "A number is outside the domain of a formula."


def shown(value: object, most: int = 80) -> str:
    """What was found, as a person would write it in a file, at most so many characters; None is nothing."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int) and value.bit_length() > 600:  # Python refuses to print what is very long
        return f"a whole number of about {value.bit_length() * 0.30103:.0f} digits"
    if isinstance(value, float):
        return f"{value:.15g}"
    return repr(value)[:most]


def near_miss(word: str, known: Iterable[str], otherwise: str = "", *, cutoff: float = 0.6) -> str:
    """ "did you mean 'amount'?" for the nearest known word, `otherwise` if none is near: the `fix` of many errors.

    A word that differs in case alone is nearest.
    """
    words = list(known)
    found = [k for k in words if k.lower() == word.lower()] or get_close_matches(word, words, n=1, cutoff=cutoff)
    return f"did you mean {found[0]!r}?" if found else otherwise

"""A page for every error code: what it means, the usual cause, what to do."""

from __future__ import annotations

from collections.abc import Iterator

from aggregator.core.errors import ConfigError, SpilloverError, near_miss

PAGES: dict[str, str] = {
    "SPL-000": "A file that cannot be used, or a defect of this program. What was stored stays as it was.",
    "SPL-100": "A file, flag or address cannot be used. Compare with config/default.toml; every key is checked.",
    "SPL-110": "A stress contradicts itself, or names an asset that is not there. Moves are fractions: -0.3 is -30 %.",
    "SPL-120": "A table of a book has a wrong column or cell. Nothing was stored; docs/import.md has the format.",
    "SPL-200": "No endpoint of a source answered in time. `spillover doctor` asks each one and says which.",
    "SPL-210": "An endpoint serves another chain than its configuration says. Nothing it said was kept.",
    "SPL-220": "Endpoints disagree about a block's hash. Remove the one that lies, or collect again a little later.",
    "SPL-230": "An endpoint sent what cannot be decoded: truncated JSON, or fewer bytes than the call returns.",
    "SPL-240": "Every endpoint of the source refused for its rate. Lower max_per_s or add an endpoint.",
    "SPL-250": "A recording is damaged, or lacks an answer that this version asks for. Record it again.",
    "SPL-300": "The store holds no cut yet, or its database is of a newer version, locked or torn. It was not changed.",
    "SPL-400": "A number is outside the domain of a formula; the message names the element.",
    "SPL-410": "A rule lacks a price or a term for an account. The account is a gap, not a zero.",
    "SPL-420": "The contract would refuse this liquidation; the message carries its reason.",
}


def error_page(code: str) -> tuple[str, str]:
    """Title and text of a code such as SPL-210; ConfigError, naming the nearest, for one that is none."""
    if code not in PAGES:
        raise ConfigError("no such error code", expected=", ".join(PAGES), found=code, fix=near_miss(code, PAGES))
    import aggregator.rules.base  # noqa: F401 - it has errors of its own

    return next(kind.title for kind in _kinds(SpilloverError) if kind.code == code), PAGES[code]


def _kinds(root: type[SpilloverError]) -> Iterator[type[SpilloverError]]:
    yield root
    for kind in root.__subclasses__():
        yield from _kinds(kind)

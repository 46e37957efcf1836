"""What the cut does not know: gaps of prices that rows alone cannot state, and coverage per deployment."""

from __future__ import annotations

from math import fsum
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from aggregator.core.ids import chain_or_source
from aggregator.core.result import Coverage
from aggregator.core.rows import Gap
from aggregator.core.table import Table
from aggregator.snapshot.values import amount_raw, price_usd, value_usd

if TYPE_CHECKING:
    from aggregator.snapshot.snapshot import Snapshot

ADDED_REASONS = ("bad_price", "no_price", "stale_price", "unlisted_accounts", "unread")  # by the snapshot itself
# these hide accounts or what they hold; the others are known in full and marked
HIDING = (
    "reverted", "no_price", "bad_price", "unlisted_accounts", "unknown_version", "bad_decimals", "no_code",
    "adapter_failed", "source_failed", "unread",
)  # fmt: skip
_ASSET_SIDES = ("supply", "collateral", "margin", "long")


def price_gaps(snap: Snapshot) -> list[tuple[str, Gap]]:
    """(deployment, Gap) for every price below zero or older than its heartbeat at the cut, and every asset
    held, or underlying a perpetual or option, without a USD price or an index: how many accounts hold it, and what they
    hold in USD where that is known."""
    holdings = _Holdings(snap)
    out: list[tuple[str, Gap]] = []
    table = snap.tables["price"]
    for place, row in enumerate(snap.rows("price")):
        deployment = snap.names[table["deployment"][place]]
        where = f"{row.path} in {row.quote.removeprefix('iso4217:')}" + f" read by {row.market}" * bool(row.market)
        age_s = snap.time_s(deployment) - row.updated_s
        if row.raw < 0:
            out.append((deployment, Gap(row.asset, "bad_price", f"{where}: raw {row.raw}", *holdings.size(row.asset))))
        elif row.updated_s > 0 and 0 < row.heartbeat_s < age_s:
            detail = f"{where}: {age_s} s old, heartbeat {row.heartbeat_s} s"
            out.append((deployment, Gap(row.asset, "stale_price", detail, *holdings.size(row.asset))))
    held = holdings.table["shares_f"] > 0
    for deployment, asset, accounts in _grouped(snap, "exposure", "asset", held & np.isnan(holdings.amount)):
        out.append((deployment, Gap(asset, "unread", "held, and its market gives no index for that side", accounts)))
    unpriced = np.isnan(price_usd(snap))
    for kind, column, nil, how in (
        ("exposure", "asset", ~held, "held"),
        ("perp", "asset", snap.tables["perp"]["size_f"] == 0, "open perpetuals"),
        ("option", "underlying", snap.tables["option"]["size_f"] == 0, "open options"),
    ):
        which = unpriced[snap.tables[kind][column]] & ~nil
        for deployment, asset, accounts in _grouped(snap, kind, column, which):
            out.append((deployment, Gap(asset, "no_price", f"{how}, and no row leads to a USD price", accounts)))
    return sorted(out)


def _grouped(snap: Snapshot, kind: str, column: str, which: npt.NDArray[np.bool_]) -> list[tuple[str, str, int]]:
    """(deployment, asset in that column, accounts) of the rows chosen."""
    table, names, places = snap.tables[kind], snap.names, np.flatnonzero(which)
    pair = table["deployment"][places].astype(np.int64) * len(names) + table[column][places]
    pairs, of_pair = np.unique(pair, return_inverse=True)
    accounts, of_account = np.unique(_accounts(snap, table, places), return_inverse=True)
    each = np.unique(of_pair * len(accounts) + of_account) // max(len(accounts), 1)  # every account once a pair
    counts = np.bincount(each, minlength=len(pairs))
    return [
        (names[p // len(names)], names[p % len(names)], n) for p, n in zip(pairs.tolist(), counts.tolist(), strict=True)
    ]


def _accounts(snap: Snapshot, table: Table, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """(market, holder) of the rows at places as one number each."""
    out: npt.NDArray[np.int64] = table["market"][places].astype(np.int64) * len(snap.names) + table["holder"][places]
    return out


class _Holdings:
    """What accounts hold, and its USD."""

    def __init__(self, snap: Snapshot) -> None:
        self.snap, self.table = snap, snap.tables["exposure"]
        self.amount = amount_raw(snap)
        self.value = self.amount * price_usd(snap)[self.table["asset"]]

    def size(self, asset: str) -> tuple[int, str]:
        """(accounts, value_usd) of every exposure to the asset; value '' if any of it is unknown."""
        places = self.snap.find("exposure", asset=asset)
        value = self.value[places]
        accounts = np.unique(_accounts(self.snap, self.table, places))
        return len(accounts), "" if np.isnan(value).any() else f"{fsum(value.tolist()):.2f}"


def coverage(snap: Snapshot) -> list[Coverage]:
    """Per deployment, sorted: level, accounts read, gross USD of what they own there (priced part), number of gaps.

    USD is None where nothing of the deployment could be read. aggregate: a Gap says that only totals are known.
    partial: the run said so, or a Gap hides accounts or values. A deployment whose source gave nothing is not in the
    cut: it speaks through its Gap, filed beside another's rows.
    """
    table, value = snap.tables["exposure"], np.nan_to_num(value_usd(snap), nan=0.0)
    owned = np.isin(table["side"], [snap.code(side) for side in _ASSET_SIDES])
    here = set(snap.deployments)  # a gap of one of these, or of a market of theirs, is among its own
    absent = [g for g in snap.rows("gap", reason="source_failed") if "/".join(g.subject.split("/")[:3]) not in here]
    out = [_covered(gap.subject, "partial", 0, None, 1) for gap in absent]
    for deployment in snap.deployments:
        code = snap.code(deployment)
        holders = set()
        for kind in ("exposure", "perp", "option"):
            facts = snap.tables[kind]
            mine = facts["deployment"] == code
            holders |= set(zip(facts["market"][mine].tolist(), facts["holder"][mine].tolist(), strict=True))
        gaps = [gap for gap in snap.rows("gap", deployment=deployment) if gap not in absent] if code >= 0 else []
        worth = fsum(value[owned & (table["deployment"] == code)].tolist())
        said = snap.levels.get(deployment, "full")
        level = _level(said, {gap.reason for gap in gaps})
        out.append(_covered(deployment, level, len(holders), None if said == "failed" else worth, len(gaps)))
    return sorted(out, key=lambda c: (str(c.chain), c.protocol, c.deployment))


def hidden_frac(snap: Snapshot) -> float:
    """Share of all accounts that a Gap hides; a deployment that could not be read at all counts as one at least."""
    hidden = sum(max(gap.accounts, 1) for gap in snap.gaps if gap.reason in HIDING and gap.accounts)
    read = sum(c.accounts for c in coverage(snap))
    return hidden / (hidden + read) if hidden + read else 0.0


def _covered(deployment: str, level: str, accounts: int, worth_usd: float | None, gaps: int) -> Coverage:
    _, protocol, name = deployment.split("/", 2)
    worth = None if worth_usd is None else f"{worth_usd:.2f}"
    return Coverage(chain_or_source(deployment), protocol, name, level, accounts, worth, gaps)


def _level(said: str, reasons: set[str]) -> str:
    if said == "aggregate" or "aggregate_only" in reasons:
        return "aggregate"
    return "partial" if said != "full" or reasons & set(HIDING) else "full"

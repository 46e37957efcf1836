"""What a stress answers: plain data, JSON-ready, the same bytes for the same cut, scenario and version.

Amounts are USD float64. Every list is sorted; no clock, no path, no machine in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field

from aggregator.core.words import first_of, usd

UNJUDGED = ("unjudged", "unknown_version")  # reasons of gaps that leave whole accounts out
_LEAST_USD = 0.005
_LEAST_SHARE = 0.01  # of what lenders lose: less is not said beside it
_UNSETTLED = "the cascade did not settle"
_TRADERS = ("option_shortfall_usd", "perp_shortfall_usd", "perp_unrealised_shortfall_usd")


@dataclass(frozen=True, slots=True)
class Convergence:
    """residual: what still moved in the last round, in the unit of the state (USD or price fraction)."""

    rounds: int
    residual: float
    converged: bool
    why: str = ""


@dataclass(frozen=True, slots=True)
class Coverage:
    """Per deployment: level full | partial | aggregate, accounts and value read, number of gaps.

    value_usd: None where nothing could be read. chain: EIP-155 id, or the name of a source that is no chain.
    """

    chain: int | str
    protocol: str
    deployment: str
    level: str
    accounts: int
    value_usd: str | None
    gaps: int


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """One round: prices after it (asset id -> USD) and flows; conservation is checked and its error kept.

    Calls, liquidated, repaid, sold and bad debt add up over the rounds to the totals. At the round's end stand
    unrealised_shortfall_usd (debt above its collateral that nobody has booked) and credit_loss_usd (that and all bad
    debt so far): of the last round, the totals'; of the first, what amplification compares with.
    """

    number: int
    prices_usd: dict[str, float]
    liquidations: int
    liquidated_usd: float
    repaid_usd: float
    sold_usd: float
    bad_debt_usd: float
    unrealised_shortfall_usd: float
    credit_loss_usd: float
    write_down_usd: float
    option_pnl_usd: float
    conservation_error_usd: float


@dataclass(frozen=True, slots=True)
class NodeLoss:
    """A named loser, the layer that paid; kind: protocol | market | holder | liquidator | pool | claim."""

    node: str
    kind: str
    layer: str
    loss_usd: float


@dataclass(frozen=True, slots=True)
class MarketOutcome:
    market: str
    protocol: str
    chain: int | str
    liquidated_usd: float
    repaid_usd: float
    bad_debt_usd: float
    unrealised_shortfall_usd: float
    liquidated_accounts: int
    unprofitable_accounts: int


@dataclass(frozen=True, slots=True)
class WalletOutcome:
    holder: str
    equity_before_usd: float
    equity_after_usd: float
    loss_usd: float
    liquidated_usd: float
    health_before: float | None
    health_after: float | None


@dataclass(frozen=True, slots=True)
class Edge:
    """Where the last digits of an input may decide: within 1e-9 of health 1 (or of the contract's rounding of it), a
    close-factor, dust or whole-collateral step, a profit of 0, the end of the pools, or of an equal candidate.

    kind: health | step | profit | pool | tie. off: relative distance, 0 on it; for a step within which one lies.
    asset: the collateral or what was sold; '' where it is none's. account and market: '' for a pool.
    """

    kind: str
    account: str
    market: str
    asset: str
    off: float


@dataclass(frozen=True, slots=True)
class StressResult:
    """edges: the nearest of each kind; edge_counts: how many there were, by kind.

    amplification = loss at the fixed point / loss of the first round alone (1.0 when nothing is liquidated).
    """

    version: str
    cut_digest: str
    snapshot_digest: str
    scenario_digest: str
    scenario: dict[str, object]
    conventions: dict[str, object]
    convergence: Convergence
    rounds: list[RoundRecord]
    losses: list[NodeLoss]
    markets: list[MarketOutcome]
    wallets: list[WalletOutcome]
    totals: dict[str, float]
    amplification: float
    conservation: dict[str, float]
    coverage: list[Coverage]
    gaps: list[dict[str, object]]
    notes: list[str] = field(default_factory=list)
    edges: list[Edge] = field(default_factory=list)
    edge_counts: dict[str, int] = field(default_factory=dict)

    @property
    def job(self) -> str:
        return job(self.snapshot_digest, self.scenario_digest, self.version)

    @property
    def read_nothing(self) -> bool:
        """Nobody's account was read: no figure of it says anything of debt."""
        return not any(c.accounts for c in self.coverage)

    @property
    def degraded(self) -> list[str]:
        """Why the figures are less than the whole: deployments that were not read in full, markets that hold accounts
        which nobody could judge, sales without known depth, a cascade that did not settle; empty where none is so."""
        out = unread(self.coverage)
        if self.read_nothing:
            out.append("nothing was read")
        out += [f"not judged: {where}" for where in self._unjudged()] + self._sold_at_price()
        if not self.convergence.converged:
            out.append(f"{_UNSETTLED}: {self.convergence.why}")
        return out

    def _unjudged(self) -> list[str]:
        return sorted({str(gap["subject"]) for gap in self.gaps if gap["reason"] in UNJUDGED})

    def _sold_at_price(self) -> list[str]:
        """What no known depth took makes losses a lower bound, from 1 % of what is liquidated on."""
        sold = self.totals.get("sold_without_known_depth_usd", 0.0)
        if sold <= max(_LEAST_USD, _LEAST_SHARE * self.totals.get("liquidated_usd", 0.0)):
            return []
        return [f"USD {usd(sold)} was sold at its price, for its depth is not known"]

    @property
    def credit_loss_usd(self) -> float:
        """Bad debt that was booked, and shortfall that nobody has booked."""
        return sum(m.bad_debt_usd + m.unrealised_shortfall_usd for m in self.markets)

    @property
    def traders_unpaid_usd(self) -> float:
        """What accounts of options and perps owe beyond what they have, whoever pays it; no part of credit losses."""
        return sum(self.totals.get(key, 0.0) for key in _TRADERS)

    @property
    def headline(self) -> str:
        """One sentence with the number, as far as what was read carries it. Names in it come from anybody."""
        partly, unjudged = unread(self.coverage), self._unjudged()
        if self.read_nothing:
            where = f" of {first_of(partly)}" if partly else ""
            return f"Nothing was read{where}: no account, and nothing is said of debt"
        credit, unpaid = self.credit_loss_usd, self.traders_unpaid_usd
        some = credit > _LEAST_USD
        traders = (
            f"traders of options and perps leave USD {usd(unpaid)}"
            if unpaid > max(_LEAST_USD, _LEAST_SHARE * credit)
            else ""
        )
        if unjudged and not self.markets and not some and not traders:
            return f"No account could be judged in {first_of(unjudged)}: nothing is said of debt"
        if not some and not self.degraded:
            return f"No loan is left uncovered, but {traders} unpaid" if traders else "No debt is left uncovered"
        left = f"USD {usd(credit) if some else 0} of debt is left uncovered"
        if some and self.amplification >= 1.05 and self.totals.get("credit_loss_first_round_usd", 0.0) > _LEAST_USD:
            left += f", {self.amplification:.1f} times the first round alone"
        left += f"; {traders} more unpaid" if traders else ""
        if not self.degraded:
            return left
        wanting = [f"not read in full: {first_of(partly)}"] if partly else []
        wanting += [f"not judged: {first_of(unjudged)}"] if unjudged else []
        wanting += self._sold_at_price()
        wanting += [] if self.convergence.converged else [_UNSETTLED]
        return f"At least {left} ({'; '.join(wanting)})"

    def json(self) -> bytes:
        said = asdict(self) | {"job": self.job, "headline": self.headline, "degraded": self.degraded}
        return json.dumps(said, sort_keys=True, indent=1, allow_nan=False).encode()


def becomes(totals: Mapping[str, float]) -> str:
    """What becomes of the debt that is left uncovered, in a clause; its parts add up to `credit_loss_usd`."""
    owed, latent = totals.get("bad_debt_owed_usd", 0.0), totals.get("unrealised_shortfall_usd", 0.0)
    parts = (
        (totals.get("bad_debt_usd", 0.0) - owed, "is written off"),
        (owed, "stays owed by emptied accounts"),
        (latent, "is above its collateral and not booked"),
    )
    seen = [(size, words) for size, words in parts if size > _LEAST_USD]
    if len(seen) == 1:
        return f"all of the uncovered debt {seen[0][1]}"
    return "of the uncovered debt, " * bool(seen) + ", ".join(f"USD {usd(size)} {words}" for size, words in seen)


def unread(coverage: Iterable[Coverage]) -> list[str]:
    """Deployments that were not read in full: chain/protocol/name."""
    return [f"{c.chain}/{c.protocol}/{c.deployment}" for c in coverage if c.level != "full"]


def job(row_digest: str, scenario_digest: str, version: str, level_digest: str = "") -> str:
    """Name of a stress and its permalink: sha-256 of what it was computed from, one part a line.

    row_digest: of the snapshot, so of all that was read and how far, not of the blocks alone. level_digest: of how far
    its rows are trusted; '' while no level is above another.
    """
    return hashlib.sha256("\n".join((row_digest, level_digest, scenario_digest, version)).encode()).hexdigest()

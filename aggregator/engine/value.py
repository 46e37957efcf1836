"""What claims are worth: look-through to a fixed point, iterated down from book value.

With market prices p of the assets that are nobody's claim, par factors k and losses lambda of the pots behind them,

    v_a = p_a                                                                        a is no claim
    v_a = k_a * (1 - phi_a) * sum_u rate_au * v_u * (1 - lambda_au)                  receipt, vault share, wrapper
    v_a = k_a * L_a * [ (1/s - 1/s_hi) v_base + (s - s_lo) v_quote ],   s = sqrt(v_base / v_quote) clipped     liquidity

phi is the share of its own assets that the issuer lost as a supplier elsewhere. lambda = min(1, lost / supply) of the
pot after its reserves; where loans are marked, `lost` also counts what borrowers' collateral no longer covers, so that
lambda depends on v and v can run in a circle. The map is monotone and continuous, so iteration from above reaches the
greatest fixed point (Tarski 1955; Rogers & Veraart 2013, doi:10.1287/mnsc.1120.1569, section 3).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from aggregator.core.errors import DomainError
from aggregator.engine.book import Book, Claims, Codes, Floats, Indices, Lps, Pots, add_up, is_claim

_ROUNDS = 20_000
_CLAIM_STEPS = 32  # claims on claims: more than anybody builds, and an end to those that stand on each other
NO_ANSWER_GAIN = 1.0 - 1e-12  # of a cycle of claims, but for rounding
_TOLERANCE = 4e-16  # relative; two units in the last place


class Valuation(NamedTuple):
    """value_usd and look-through at par (k = 1), (assets,); lost_frac (pots,); residual relative, 0 when converged."""

    value_usd: Floats
    backing_usd: Floats
    lost_frac: Floats
    residual: float


def look_through(claims: Claims, lps: Lps, value_usd: Floats, kept_frac: Floats | float = 1.0) -> Floats:
    """(assets,) USD that one whole claim stands for at these values, 0 for others; kept_frac (claims,): not lost."""
    n = len(value_usd)
    out = add_up(claims.asset, claims.rate * value_usd[claims.underlying] * kept_frac, n)
    if len(lps.asset):
        base, quote = value_usd[lps.base], value_usd[lps.quote]
        with np.errstate(divide="ignore", invalid="ignore"):
            s_now = np.clip(np.sqrt(base / quote), lps.sqrt_lower, lps.sqrt_upper)
            held_base = np.where(base > 0.0, (1.0 / s_now - 1.0 / lps.sqrt_upper) * base, 0.0)
            held_quote = np.where(quote > 0.0, (s_now - lps.sqrt_lower) * quote, 0.0)
        out += add_up(lps.asset, lps.liquidity * (held_base + held_quote), n)
    return out


def places_of(pots: Pots) -> dict[tuple[int, int], int]:
    """(market, asset) -> place of its pot."""
    return {pair: i for i, pair in enumerate(zip(pots.market.tolist(), pots.asset.tolist(), strict=True))}


def pot_of_claims(claims: Claims, places: Mapping[tuple[int, int], int]) -> Indices:
    """(claims,) place of the pot that each stands on, -1 for none."""
    pairs = zip(claims.market.tolist(), claims.underlying.tolist(), strict=True)
    return np.array([places.get(pair, -1) for pair in pairs], np.int64)


def lent_through(
    claims: Claims, places: Mapping[tuple[int, int], int], held: Floats, seen: Floats | float = 1.0
) -> Iterator[Floats]:
    """(pots,) units that holders of claims have lent, step by step through claims on claims.

    places: of the pots by (market, asset); held (assets,): units of each; seen (assets,): the part of a claim's holders
    that is looked through.
    """
    pot = pot_of_claims(claims, places)
    on_pot = pot >= 0
    for _ in range(_CLAIM_STEPS):
        with np.errstate(over="ignore", invalid="ignore"):  # claims that stand on each other grow; values refuse them
            stands = held[claims.asset] * claims.rate
            lent = add_up(pot[on_pot], stands[on_pot], len(places))
            held = add_up(claims.underlying[~on_pot], stands[~on_pot], len(held)) * seen
        yield lent
        if not held.any():
            return


class CutValues(NamedTuple):
    """(assets,) before any blow or loss: value_usd, what claims stand for, and a claim's price relative to that.

    value_usd is NaN where nothing leads to a price.
    """

    value_usd: Floats
    backing_usd: Floats
    par: Floats


@np.errstate(over="ignore", invalid="ignore")  # what leaves float64 is refused by name
def values_at_cut(claims: Claims, lps: Lps, price_usd: Floats) -> CutValues:
    """Claims without a price of their own are worth what they stand for; the others keep their distance from it."""
    claim = is_claim(claims, lps, len(price_usd))
    value = price_usd.copy()
    unknown = claim & np.isnan(price_usd)
    value[unknown] = 0.0
    for _ in range(int(unknown.sum())):  # deep first
        after = np.where(unknown, look_through(claims, lps, np.nan_to_num(value)), value)
        if np.array_equal(after, value, equal_nan=True):
            break
        value = after
    backing = np.where(claim, look_through(claims, lps, np.nan_to_num(value)), value)
    par = np.divide(value, backing, out=np.ones(len(value)), where=claim & ~unknown & (backing > 0.0))
    return CutValues(value, backing, par)


class Lookthrough:
    """The claims of a book with the static part of the map worked out once."""

    def __init__(self, book: Book, *, mark_loans: bool = False) -> None:
        self.book, self.mark_loans = book, mark_loans
        self.n = len(book.assets)
        self.pot_of = places_of(book.pots)
        self.row_pot = pot_of_claims(book.claims, self.pot_of)
        self.is_claim = is_claim(book.claims, book.lps, self.n)
        by_holder: dict[int, list[int]] = {}
        for row, holder in enumerate(book.supplies.holder.tolist() if book.issuers else []):
            by_holder.setdefault(holder, []).append(row)
        found = [(asset, self._own_losses(asset, by_holder.get(holder, []))) for asset, holder in book.issuers]
        self.issuers = [(asset, rows) for asset, rows in found if len(rows)]
        self.any_claim = bool(self.is_claim.any())
        self.debt_pot: Codes | None = None

    def _own_losses(self, asset: int, supplies: list[int]) -> Indices:
        """Supplies of an issuer that its claim does not look through to already, by way of their receipt."""
        c = self.book.claims
        receipts = self.row_pot[np.isin(c.asset, c.underlying[c.asset == asset])]
        rows = np.array(supplies, np.int64)
        return rows[~np.isin(self.book.supplies.pot[rows], receipts[receipts >= 0])]

    @np.errstate(over="ignore", invalid="ignore")  # what leaves float64 is refused by name
    def solve(
        self, price_usd: Floats, par: Floats, lost_units: Floats, start_usd: Floats, leg_amount: Floats | None = None
    ) -> Valuation:
        """price_usd, par, start_usd (assets,): start must not lie below the answer; lost_units (pots,).

        DomainError names a cycle of claims whose values leave float64.
        """
        value = np.where(self.is_claim, start_usd, price_usd)
        backing, lost = value.copy(), self._lost(lost_units, value, leg_amount)
        if not self.any_claim:
            return Valuation(value, backing, lost, 0.0)
        residual = np.inf
        for _ in range(_ROUNDS):
            lost = self._lost(lost_units, value, leg_amount)
            backing = np.where(self.is_claim, self.backing(value, lost), price_usd)
            after = np.where(self.is_claim, par * backing, price_usd)
            residual = float(np.max(np.abs(after - value) / np.maximum(np.abs(value), 1e-300)))
            value = after
            if residual <= _TOLERANCE:
                return Valuation(value, backing, self._lost(lost_units, value, leg_amount), 0.0)
            if not residual < np.inf:
                gain, cycle = cycle_gain(self.book.claims, self.book.assets)
                raise DomainError(
                    "claims stand on each other and grow without end",
                    expected="a cycle of claims whose rates together are below 1, at prices that follow from them",
                    found=f"gain {gain:.6g}: {', '.join(cycle)}",
                    fix="take out the claim that closes the cycle",
                )
        return Valuation(value, backing, lost, residual)

    def backing(self, value: Floats, lost: Floats) -> Floats:
        """(assets,) what claims look through to at par, 0 for others."""
        kept = np.where(self.row_pot >= 0, 1.0 - lost[self.row_pot], 1.0) if len(lost) else 1.0
        out = look_through(self.book.claims, self.book.lps, value, kept)
        for asset, rows in self.issuers:
            s = self.book.supplies
            worth = s.units[rows] * value[self.book.pots.asset[s.pot[rows]]]
            total = worth.sum()
            if total > 0.0:
                out[asset] *= (worth * (1.0 - lost[s.pot[rows]])).sum() / total
        return out

    def _lost(self, lost_units: Floats, value: Floats, leg_amount: Floats | None) -> Floats:
        pots = self.book.pots
        lost = lost_units
        if self.mark_loans and leg_amount is not None:
            lost = lost + self.shortfall_units(value, leg_amount)
        to_suppliers = np.maximum(lost - pots.reserve_units, 0.0)
        with np.errstate(divide="ignore", invalid="ignore"):
            frac = np.where(to_suppliers > 0.0, to_suppliers / pots.supply_units, 0.0)
        out: Floats = np.minimum(frac, 1.0)
        return out

    def shortfall_units(self, value: Floats, leg_amount: Floats) -> Floats:
        """(pots,) units of debt that the borrowers' collateral does not cover at these values."""
        short_usd, owed_usd, owner, debt = shortfall(self.book, value, leg_amount)
        t = self.book.leg_term[debt]
        if self.debt_pot is None:
            terms = self.book.terms
            pairs = zip(terms.market.tolist(), terms.asset.tolist(), strict=True)
            self.debt_pot = np.array([self.pot_of.get(pair, -1) for pair in pairs], np.int32)
        pot = self.debt_pot[t]
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(owed_usd > 0.0, short_usd / owed_usd, 0.0)
        units = leg_amount[debt] * share[owner]
        known = pot >= 0
        out: Floats = add_up(pot[known], units[known], len(self.book.pots.market))
        return out


def cycle_gain(claims: Claims, names: Sequence[str]) -> tuple[float, tuple[str, ...]]:
    """Largest spectral radius of the rates on a cycle of claims, and its assets by name; (0, ()) without cycles.

    names (assets,). At `NO_ANSWER_GAIN` or above the claims stand on each other and look-through has no answer.
    """
    if not len(claims.asset):
        return 0.0, ()
    n = len(names)
    matrix = sparse.csr_array((claims.rate, (claims.asset, claims.underlying)), shape=(n, n))
    count, label = connected_components(matrix, directed=True, connection="strong")
    worst: tuple[float, tuple[str, ...]] = (0.0, ())
    sizes = np.bincount(label, minlength=count)
    loops = matrix.diagonal() > 0.0
    for component in np.flatnonzero((sizes > 1) | (np.bincount(label, loops, count) > 0)):
        members = np.flatnonzero(label == component)
        block = matrix[members][:, members].toarray()
        gain = float(np.max(np.abs(np.linalg.eigvals(block))))
        if gain > worst[0]:
            worst = (gain, tuple(names[i] for i in members.tolist()))
    return worst


def shortfall(book: Book, value: Floats, leg_amount: Floats) -> tuple[Floats, Floats, Indices, Indices]:
    """Debt above collateral at market values: (short_usd, owed_usd) (accounts,), owner and index of the debt legs."""
    owner = book.leg_owner()
    is_debt = book.terms.debt[book.leg_term]
    usd = leg_amount * value[book.terms.asset[book.leg_term]]
    owed = add_up(owner, np.where(is_debt, usd, 0.0), book.accounts)
    held = add_up(owner, np.where(is_debt, 0.0, usd), book.accounts)
    debt = np.flatnonzero(is_debt)
    return np.maximum(owed - held, 0.0), owed, owner[debt], debt

r"""One interface for option and perp margin: whole books in, equity and requirements out.

A `MarginModel` turns accounts on one underlying into equity :math:`E`, initial requirement :math:`I` and
maintenance requirement :math:`M` per account; an account is liquidatable when :math:`E<M`.  Venues that publish a
net figure (Derive's ``getMargin``) publish :math:`E-I` and :math:`E-M`, here `initial_excess` and
`maintenance_excess`.  The models: `margin_derive` (standard, portfolio 1 and 2), `margin_deribit` (standard,
portfolio), `margin_span`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import wraps
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.quant._checks import floats, indices, joint_shape, representable, require
from aggregator.quant._option_inputs import Floats, Signs, kind_sign

Ints = npt.NDArray[np.int64]
_Model = TypeVar("_Model")
COLUMNS = ("K", "seconds", "forward_fixed", "forward_variable", "amount", "sigma", "r", "discount", "confidence")


@dataclass(frozen=True)
class Market:
    """The underlying: prices in USD, confidence of each feed in [0, 1], price of the settlement stablecoin.

    perp_usd may be left out where nobody holds perps.
    """

    spot_usd: float
    perp_usd: float | None = None
    stable_usd: float = 1.0
    spot_confidence: float = 1.0
    perp_confidence: float = 1.0

    def __post_init__(self) -> None:
        for name in ("spot_usd", "perp_usd", "stable_usd"):
            price = getattr(self, name)
            if price is not None and not 0.0 < price < np.inf:
                raise DomainError(f"{name} is unusable", expected="a positive price", found=str(price))
        for name in ("spot_confidence", "perp_confidence"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise DomainError(f"{name} is unusable", expected="between 0 and 1", found=str(getattr(self, name)))


@dataclass(frozen=True)
class MarginBook:
    """Accounts on one underlying; build it with `margin_book`.

    offsets (n+1,): options of account i are rows offsets[i]:offsets[i+1], by expiry and strike; sign (m,);
    options (9, m), rows named by COLUMNS; per account (n,): cash, perps [contracts], perp_pnl, base [coins],
    collateral [USD, not counted as exposure], cancelling [USD, moves with spot], haircuts [USD].
    """

    offsets: Ints
    sign: Signs
    options: Floats
    cash: Floats
    perps: Floats
    perp_pnl: Floats
    base: Floats
    collateral: Floats
    cancelling: Floats
    haircut_maintenance: Floats
    haircut_initial: Floats
    account: Ints = field(repr=False)

    @property
    def accounts(self) -> int:
        return int(self.cash.size)

    def column(self, name: str) -> Floats:
        """One option column by its name in COLUMNS, shape (m,)."""
        return np.asarray(self.options[COLUMNS.index(name)])

    def expiries(self) -> Ints:
        """(k,) first option row of each expiry of each account."""
        breaks = (np.diff(self.account) != 0) | (np.diff(self.column("seconds")) != 0)
        return np.flatnonzero(np.r_[True, breaks]) if self.account.size else np.empty(0, np.int64)

    def per_account(self, values: Floats, rows: Ints | None = None) -> Floats:
        """(n,) sums over the options (m,) of each account, or over the option rows given."""
        owner = self.account if rows is None else self.account[rows]
        return np.bincount(owner, weights=values, minlength=self.accounts).astype(np.float64)

    def linear_usd(self, market: Market) -> Floats:
        """(n,) value of the perps.  DomainError if there are perps and the market has no price for them."""
        if market.perp_usd is None:
            require("perps", self.perps, self.perps == 0.0, "none, as the market has no perp_usd")
            return np.zeros(self.accounts)
        return self.perps * market.perp_usd

    def refuse(self, model: str, *columns: str) -> None:
        """DomainError names the first account with something in a column that the model would leave out."""
        for name in columns:
            require(name, getattr(self, name), getattr(self, name) == 0.0, f"0, because {model} does not count {name}")


class MarginResult(NamedTuple):
    """Per account (n,), in the account's currency: equity, requirements, index of the worst scenario (number of
    scenarios: the basis contingency, or nothing at all, is worse; -1 where the model has no scenarios)."""

    equity: Floats
    initial: Floats
    maintenance: Floats
    worst_scenario: Ints

    @property
    def initial_excess(self) -> Floats:
        return self.equity - self.initial

    @property
    def maintenance_excess(self) -> Floats:
        return self.equity - self.maintenance


class MarginModel(Protocol):
    """A venue's margin rule and its parameters."""

    def margin(self, book: MarginBook, market: Market) -> MarginResult: ...


_Margin = Callable[[_Model, MarginBook, Market], MarginResult]


def in_figures(margin: _Margin[_Model]) -> _Margin[_Model]:
    """Raise DomainError where finite books lead to margins that are no finite figures, instead of a numpy warning."""
    guarded = representable(margin)

    @wraps(margin)
    def run(model: _Model, book: MarginBook, market: Market) -> MarginResult:
        found = guarded(model, book, market)
        for name, figure in zip(("equity", "initial", "maintenance"), found[:3], strict=True):
            require(name, figure, np.isfinite(figure), "inputs whose products stay below 1e308")
        return found

    return run


def check_numbers(model: object, **least: float) -> None:
    """DomainError names a parameter of a margin model (a dataclass) that is not finite and >= 0, or >= its least.

    A requirement is a sum of parameters times sizes and losses: with none below its least it cannot be negative.
    """
    for parameter in fields(model):  # type: ignore[arg-type]
        number = getattr(model, parameter.name)
        if isinstance(number, float | int):
            bound = least.get(parameter.name, 0.0)
            require(parameter.name, number, bound <= number < np.inf, f"a finite number >= {bound:g}")


def margin_book(
    accounts: int,
    *,
    account: npt.ArrayLike = (),
    kind: npt.ArrayLike = (),
    K: npt.ArrayLike = (),
    seconds: npt.ArrayLike = (),
    forward_fixed: npt.ArrayLike = 0.0,
    forward_variable: npt.ArrayLike = (),
    amount: npt.ArrayLike = (),
    sigma: npt.ArrayLike = (),
    r: npt.ArrayLike = 0.0,
    discount: npt.ArrayLike = 1.0,
    confidence: npt.ArrayLike = 1.0,
    cash: npt.ArrayLike = 0.0,
    perps: npt.ArrayLike = 0.0,
    perp_pnl: npt.ArrayLike = 0.0,
    base: npt.ArrayLike = 0.0,
    collateral: npt.ArrayLike = 0.0,
    cancelling: npt.ArrayLike = 0.0,
    haircut_maintenance: npt.ArrayLike = 0.0,
    haircut_initial: npt.ArrayLike = 0.0,
) -> MarginBook:
    """Sort option rows into accounts.

    Option arguments broadcast to (m,): account index, kind, strike, seconds to expiry, the settled and the
    still-moving part of the forward (they add up), signed amount, volatility, rate, price discount factor, least
    confidence of the feeds.  Account arguments broadcast to (n,).  DomainError names the first bad element.
    """
    if not isinstance(accounts, int | np.integer) or accounts < 0:
        raise DomainError("accounts cannot be counted", expected="a whole number >= 0", found=str(accounts))
    owner = np.atleast_1d(indices("account", account, accounts))
    sign = kind_sign(kind if np.size(np.asarray(kind)) else np.empty(0, np.int8))
    figures = (K, seconds, forward_fixed, forward_variable, amount, sigma, r, discount, confidence)
    given = dict(zip(COLUMNS, figures, strict=True))
    shapes = {name: np.shape(np.asarray(values)) for name, values in given.items()}
    shape = joint_shape(account=owner.shape, kind=sign.shape, **shapes)
    if len(shape) != 1:
        raise DomainError("options are no list", expected="columns (m,)", found=str(shape))
    owner, sign, rows = np.broadcast_to(owner, shape), np.broadcast_to(sign, shape), _option_rows(given, shape)
    strike, expiry, size = (rows[COLUMNS.index(name)] for name in ("K", "seconds", "amount"))
    order = np.lexsort((size, -sign.astype(np.int64), strike, expiry, owner))
    return MarginBook(
        np.searchsorted(owner[order], np.arange(accounts + 1)).astype(np.int64),
        np.ascontiguousarray(sign[order]),
        np.ascontiguousarray(rows[:, order]),
        cash=_per_account("cash", cash, accounts),
        perps=_per_account("perps", perps, accounts),
        perp_pnl=_per_account("perp_pnl", perp_pnl, accounts),
        base=_per_account("base", base, accounts),
        collateral=_per_account("collateral", collateral, accounts),
        cancelling=_per_account("cancelling", cancelling, accounts),
        haircut_maintenance=_per_account("haircut_maintenance", haircut_maintenance, accounts),
        haircut_initial=_per_account("haircut_initial", haircut_initial, accounts),
        account=owner[order],
    )


def _option_rows(given: Mapping[str, npt.ArrayLike], shape: tuple[int, ...]) -> Floats:
    """(9, m) rows in the order of COLUMNS; DomainError names the first option that no market trades."""
    rows = np.empty((len(COLUMNS), *shape))
    for row, (name, values) in zip(rows, given.items(), strict=True):
        row[...] = floats(name, values)
    k, secs, fixed, moving, _, vol, _, df, trust = rows
    usable = np.all(np.isfinite(rows), axis=0) & (k > 0) & (secs >= 0) & (fixed >= 0) & (moving >= 0)
    usable &= (fixed + moving > 0) & (vol >= 0) & (df > 0) & (trust >= 0) & (trust <= 1)
    if not np.all(usable):
        i = int(np.argmin(usable))
        found = ", ".join(f"{name}={value:.17g}" for name, value in zip(COLUMNS, rows[:, i], strict=True))
        raise DomainError(
            f"option [{i}] of the book is unusable",
            expected="finite figures, positive strike, forward and discount, seconds and sigma >= 0, confidence <= 1",
            found=found,
        )
    return rows


def _per_account(name: str, values: npt.ArrayLike, accounts: int) -> Floats:
    """(n,) a column of its own; DomainError names the first bad element."""
    column = floats(name, values)
    if column.shape not in ((), (accounts,)):
        raise DomainError(f"{name} does not fit the accounts", expected=f"({accounts},)", found=str(column.shape))
    require(name, column, np.isfinite(column), "a finite number")
    if name.startswith("haircut"):
        require(name, column, column >= 0.0, ">= 0: it adds to the requirement")
    return np.array(np.broadcast_to(column, (accounts,)))

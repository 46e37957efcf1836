r"""The loss waterfall: who pays, in what order, and what is left for suppliers.

Layer :math:`i` of size :math:`c_i` attaches at :math:`A_i=\sum_{j<i}c_j` and pays

.. math:: y_i = \min(\max(L-A_i,\,0),\,c_i) \tag{1}

what is left goes to suppliers pro rata, and what they cannot bear is `beyond`.  A staked backstop counts at most its
slashable share: stake in cooldown is still slashable until it has left, so :math:`c=\phi\,B\,(1-\epsilon)` with
:math:`\epsilon` the share that left first (Aave: DAO offset, Umbrella slash, reserve deficit, aave-umbrella d34359f;
Morpho Blue: no layer, suppliers at once).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from aggregator.core.errors import DomainError
from aggregator.quant._checks import floats, representable, require
from aggregator.quant._option_inputs import Floats


class Layer(NamedTuple):
    """A backstop layer: assets, the share that can be taken, the share that leaves before the loss lands."""

    name: str
    assets: float
    slashable_frac: float = 1.0
    exits_frac: float = 0.0

    @property
    def capacity(self) -> float:
        """What the layer pays at most."""
        return self.assets * (1.0 - self.exits_frac) * self.slashable_frac


class Waterfall(NamedTuple):
    """paid (..., layers) by layer; socialised (...) to suppliers; haircut_frac of suppliers; beyond their assets."""

    paid: Floats
    socialised: Floats
    haircut_frac: Floats
    beyond: Floats


@representable
def waterfall(loss: npt.ArrayLike, layers: tuple[Layer, ...], supplier_assets: float) -> Waterfall:
    """Distribute losses (any shape, >= 0) over layers in order, then suppliers pro rata; eq. (1), one money.

    paid + socialised + beyond sums to the loss.  DomainError names a bad loss or layer.
    """
    losses = floats("loss", loss)
    require("loss", losses, (losses >= 0.0) & np.isfinite(losses), "finite and >= 0")
    for layer in layers:
        shares = 0.0 <= layer.slashable_frac <= 1.0 and 0.0 <= layer.exits_frac <= 1.0
        if not (0.0 <= layer.assets < np.inf and shares):
            raise DomainError(
                f"layer {layer.name!r} is unusable", expected="assets >= 0, shares in [0, 1]", found=str(layer)
            )
    if not 0.0 <= supplier_assets < np.inf:
        raise DomainError("supplier assets are unusable", expected="finite and >= 0", found=str(supplier_assets))
    capacity = np.array([layer.capacity for layer in layers], dtype=np.float64)
    attach = np.concatenate([[0.0], np.cumsum(capacity)])
    paid = np.clip(losses[..., None] - attach[:-1], 0.0, capacity)
    left = losses - np.sum(paid, axis=-1)
    left = np.maximum(left, 0.0)
    socialised = np.minimum(left, supplier_assets)
    haircut = socialised / supplier_assets if supplier_assets > 0.0 else np.zeros_like(left)
    return Waterfall(paid, socialised, haircut, left - socialised)

"""A fitted flow with the names of its columns, as it is kept in a file."""

from collections.abc import Mapping

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward.bijections import OntoCircles
from pushforward.density.data.columns import wrap
from pushforward.flow import Flow


class NamedFlow(eqx.Module):
    """A density of columns that have names, what `pushforward density` saves.

    Args:
        flow: the density.
        columns: the names of its coordinates.
        given: the names of what it is conditional on.
        grids: for each discrete column a value and the distance of neighbouring ones, None for the others.
    """

    flow: Flow
    columns: tuple[str, ...] = eqx.field(static=True)
    given: tuple[str, ...] = eqx.field(static=True, default=())
    grids: tuple[tuple[float, float] | None, ...] | None = eqx.field(static=True, default=None)

    def condition(self, values: Mapping[str, float]) -> Float[Array, " cond_dim"] | None:
        """What the flow is given, from numbers by their names.

        Raises:
            ValueError: unless there is a number for each name, and no others.
        """
        if missing := [name for name in self.given if name not in values]:
            raise ValueError(f"this density is conditional: it needs values of {', '.join(missing)}.")
        if unknown := [name for name in values if name not in self.given]:
            raise ValueError(
                f"this density is not given {', '.join(unknown)}; it is given {', '.join(self.given) or 'nothing'}."
            )
        return jnp.array([float(values[name]) for name in self.given]) if self.given else None

    def sample(
        self, key: PRNGKeyArray, num_samples: int = 1000, given: Mapping[str, float] | None = None
    ) -> dict[str, Float[np.ndarray, " n"]]:
        """Draws of each column; those of discrete columns are values, not numbers in between."""
        draws = np.array(self.flow.sample(key, (num_samples,), self.condition(given or {})))
        for i, grid in enumerate(self.grids or ()):
            if grid is not None:
                value, step = grid
                draws[:, i] = value + step * np.floor((draws[:, i] - value) / step)
        if isinstance(self.flow.bijection, OntoCircles):
            draws = wrap(draws, self.flow.bijection.circles)  # a step may begin before the seam
        return dict(zip(self.columns, draws.T, strict=True))

"""Sites of which a part is observed: NumPyro's `obs_mask`."""

import warnings
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float, PyTree

from pushforward.posterior.spaces.base import AbstractSpace, SupportSpace, Unconstrained, total
from pushforward.posterior.spaces.dependence import dependent
from pushforward.posterior.spaces.numpyro import NumpyroSpace


class PartlyObserved(AbstractSpace):
    """A space without the observed entries of sites that are partly observed.

    For `sample("y", fn, obs=y, obs_mask=mask)` NumPyro makes a latent site "y_unobserved" with the shape of y, and
    hides those of its entries that are observed from the density. They have no distribution, so they are not part of a
    fit: they are held fixed, where the transform of the site takes 0. Of a discrete site, NumPyro's sum over the values
    of an observed entry is their number, by which the density is divided.

    Attributes:
        inner: the space with all entries.
        kept: the flat indices of the entries of each of these sites that are not observed, by the name of the site.
        fixed: all entries of each of these sites.
        log_num_values: the logarithm of the number of values that NumPyro sums over at observed entries of discrete
            sites.
    """

    inner: NumpyroSpace | SupportSpace
    kept: dict[str, Array | np.ndarray]
    fixed: dict[str, Array | np.ndarray]
    log_num_values: Float[Array, ""] | float = 0.0

    @staticmethod
    def upgraded_fields(fields: dict[str, Any]) -> dict[str, Any]:
        """The fields of version 0.3.0, which also had the log-volume of the observed entries."""
        return {name: value for name, value in fields.items() if name != "fixed_log_volume"}

    @classmethod
    def reduce(cls, space: AbstractSpace, example: dict[str, Array]) -> tuple[AbstractSpace, PyTree]:
        """The space and the example without the observed entries, which are unchanged if there are none.

        Args:
            space: the space of a NumPyro model.
            example: unconstrained values of its latent sites.
        """
        if not isinstance(space, NumpyroSpace) or not _partly_observed(space):
            return space, example
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they came when the space was made
            sites = space.sites(example)
        kept, fixed, log_num_values = {}, {}, jnp.zeros(())
        for name, mask in _masks(space, sites).items():
            site = sites[name]
            hidden = ~np.broadcast_to(mask, site["fn"].batch_shape)
            if name in space.discrete:
                log_num_values += hidden.sum() * np.log(len(site["fn"].enumerate_support(expand=False)))
                continue
            z = jnp.zeros_like(example[name])
            entries = np.broadcast_to(hidden.reshape(hidden.shape + (1,) * (z.ndim - hidden.ndim)), z.shape)
            kept[name], fixed[name] = np.flatnonzero(~entries), z
        if not kept and not log_num_values:
            return space, example
        reduced = cls(space, kept, fixed, log_num_values)
        return reduced, reduced.without_fixed(example)

    def with_fixed(self, z: Unconstrained) -> Unconstrained:
        """All unconstrained values.

        Args:
            z: those that are not observed.
        """
        whole = {name: a.reshape(-1).at[self.kept[name]].set(z[name]).reshape(a.shape) for name, a in self._arrays()}
        return z | whole

    def without_fixed(self, z: Unconstrained) -> Unconstrained:
        """The unconstrained values that are not observed.

        Args:
            z: all unconstrained values.
        """
        return z | {name: jnp.reshape(z[name], -1)[indices] for name, indices in self.kept.items() if name in z}

    def _arrays(self):
        return ((name, jnp.asarray(array)) for name, array in self.fixed.items())

    @property
    def description(self):
        return self.inner.description

    @property
    def data(self):
        return self.inner.data

    def with_data(self, data):
        return eqx.tree_at(lambda s: s.inner, self, self.inner.with_data(data))

    def log_density(self, z):
        return self.inner.log_density(self.with_fixed(z)) - self.log_num_values

    def constrain(self, z):
        return self.inner.constrain(self.with_fixed(z))

    def unconstrain(self, draw):
        return self.without_fixed(self.inner.unconstrain(draw))

    def latent(self, draw):
        draw = self.inner.latent(draw)
        # The entries of an event, as of a simplex, have no indices of their own: there all entries are kept.
        sizes_match = {name: jnp.size(draw[name]) == array.size for name, array in self.fixed.items()}
        return draw | self.without_fixed({name: draw[name] for name, match in sizes_match.items() if match})

    def log_volume(self, z):
        volumes = self.inner.log_volumes(self.with_fixed(z))
        for name, array in self._arrays():
            free = jnp.zeros(array.size, bool).at[self.kept[name]].set(True).reshape(array.shape)
            # A vector, such as that of a simplex, has one volume.
            free = free.any(range(volumes[name].ndim, array.ndim))
            volumes[name] = jnp.where(free, volumes[name], 0.0)
        return total(volumes)

    def with_density(self, density: Callable | None) -> "PartlyObserved":
        """The space without the model's code, with another density.

        Args:
            density: the density, or None.
        """
        return eqx.tree_at(lambda s: s.inner, self, self.inner.detached().with_density(density))

    def detached(self):
        return self.with_density(None)

    def labels(self):
        return self.inner.labels()

    def observed(self):
        return self.inner.observed()

    def pointwise_log_likelihood(self, draw):
        return self.inner.pointwise_log_likelihood(draw)

    def replicate(self, draw, key):
        return self.inner.replicate(draw, key)

    def discrete_draws(self, draw, key):
        return self.inner.discrete_draws(draw, key)


def check_masks(space: NumpyroSpace, example: dict[str, Array]) -> None:
    """Check that the same entries are observed in all data sets.

    Args:
        space: the space of a NumPyro model.
        example: unconstrained values of its latent sites.

    Raises:
        ValueError: if the mask of a site depends on the data.
    """
    if not _partly_observed(space):
        return

    def masks(data):
        moved = space.with_data(data)
        return _masks(moved, moved.sites(example))

    names = [name.removesuffix("_unobserved") for name in dependent(masks, space.data)]
    if names:
        raise ValueError(
            f"which entries of the sites {', '.join(sorted(names))} are observed depends on the data, by obs_mask or "
            "handlers.mask, so the parameters would not be the same for all data sets: give a mask that does not."
        )


def _partly_observed(space: NumpyroSpace) -> list[str]:
    """The latent sites that may belong to partly observed ones, by their names."""
    return [name for name in (*space.names, *space.discrete) if name.endswith("_unobserved")]


def _masks(space: NumpyroSpace, sites: dict[str, Any]) -> dict[str, Array]:
    """The masks of the latent sites that belong to partly observed ones."""
    found = {}
    for name in _partly_observed(space):
        whole, mask = sites.get(name.removesuffix("_unobserved")), _mask(sites[name]["fn"])
        if mask is not None and whole is not None and whole["type"] == "deterministic":
            found[name] = mask
    return found


def _mask(fn: Any) -> Array | None:
    """Where a distribution counts; None if it has no mask. A mask may be inside of another."""
    mask = None
    while isinstance(fn, dist.MaskedDistribution | dist.ExpandedDistribution):
        if isinstance(fn, dist.MaskedDistribution):
            one = jnp.asarray(fn._mask, bool)
            mask = one if mask is None else mask & one
        fn = fn.base_dist
    return mask

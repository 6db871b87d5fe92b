r"""NumPyro models with subsampled plates: the indices of the plates are the rows of a large data set.

The plates are replayed with any of their indices: with random ones in training, and with all of them, chunk by chunk,
for the density of all rows. With one plate its indices are the rows. With several, the observed sites are grouped by
the plates that they are inside. A group with plates of sizes $n_1, n_2, \dots$ has $\prod_k n_k$ entries, one for each
tuple of indices, and there are as many rows as entries in the largest group. Row r is entry r of this group, and of
each smaller group the entry r modulo its number of entries, divided by the number of rows that the entry belongs to. So
the sum over rows is the log-likelihood, and a random row is an unbiased estimate of it, up to the number of rows.

Latent sites inside a subsampled plate have their values at all indices, of which a batch uses some.
"""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PyTree

from pushforward.posterior.spaces.arguments import unmasked
from pushforward.posterior.spaces.base import AbstractSpace, Draw
from pushforward.posterior.spaces.large import checked_draws, rounding, with_likelihood
from pushforward.posterior.spaces.numpyro import NumpyroSpace
from pushforward.posterior.spaces.observed import PartlyObserved
from pushforward.posterior.spaces.preparation import bare, is_factor, latent_sites, traced
from pushforward.posterior.spaces.replay import Replay, WithoutRows, plates_of
from pushforward.posterior.spaces.rows import RowNumbers, shared

# Numbers of rows are 32-bit integers without `jax_enable_x64`.
MAX_ROWS = 2**31 - 1


class _RowsLikelihood(eqx.Module):
    """The log-likelihood of the indices of one subsampled plate."""

    replay: Replay

    def __call__(self, draw: PyTree, rows: Int[Array, " rows"]) -> Float[Array, " rows"]:
        ((plate, _),) = self.replay.sizes
        return sum(self.replay(draw, {plate: rows}).values(), jnp.zeros(len(rows)))


class _Group(eqx.Module):
    """Observed sites that are inside the same subsampled plates.

    Args:
        sites: their names.
        plates: the names of the plates.
        sizes: the sizes of the plates.
    """

    sites: tuple[str, ...] = eqx.field(static=True)
    plates: tuple[str, ...] = eqx.field(static=True)
    sizes: tuple[int, ...] = eqx.field(static=True)

    @property
    def num_entries(self) -> int:
        """The number of tuples of indices."""
        return math.prod(self.sizes)

    def log_likelihoods(self, replay: Replay, draw: Draw, tuples: dict[str, Array]) -> dict[str, Array]:
        """The log-likelihood of each site at some tuples of indices.

        Args:
            replay: the model.
            draw: a draw.
            tuples: the indices of each plate, which have the same length.
        """
        others = {plate: jnp.zeros(1, int) for plate, _ in replay.sizes if plate not in tuples}

        def at(indices):
            # Each tuple for itself: all together are not a part of a grid.
            found = replay(draw, others | {plate: index[None] for plate, index in indices.items()})
            return {name: jnp.reshape(found[name], ()) for name in self.sites}

        return jax.vmap(at)(tuples)


class _TuplesLikelihood(eqx.Module):
    """The log-likelihood of the rows of several subsampled plates.

    Args:
        replay: the model.
        groups: the groups of observed sites.
        num_rows: the number of entries of the largest group.
    """

    replay: Replay
    groups: tuple[_Group, ...]
    num_rows: int = eqx.field(static=True)

    def __call__(self, draw: PyTree, rows: Int[Array, " rows"]) -> Float[Array, " rows"]:
        total = jnp.zeros(len(rows))
        for group in self.groups:
            entries, num_rows_of_entry = shared(rows, self.num_rows, group.num_entries)
            tuples = dict(zip(group.plates, jnp.unravel_index(entries, group.sizes), strict=True))
            values = group.log_likelihoods(self.replay, draw, tuples)
            total = total + sum(values.values(), jnp.zeros(len(rows))) / num_rows_of_entry
        return total


def trace(model: Callable, args: tuple, kwargs: dict[str, Any]) -> tuple[AbstractSpace, PyTree]:
    """The space of a NumPyro model, with or without subsampled plates, and unconstrained values of its latent sites.

    Args:
        model: a NumPyro model.
        args: the positional arguments of the model.
        kwargs: the keyword arguments of the model.

    Raises:
        ValueError: if an argument has masked entries; if the model has discrete latent sites or no latent site; if a
            subsampled plate has no observed site, a site with `obs_mask`, or a parameter for each index; if the Python
            code of a model with subsampled plates uses the values of its rows; or if the likelihood of an index depends
            on other indices.
    """
    args, kwargs = unmasked(model, args, kwargs)
    sites = traced(model, args, kwargs, seed=0)
    plates: dict[str, tuple[int, int]] = {
        n: s["args"] for n, s in sites.items() if s["type"] == "plate" and s["args"][1] not in (None, s["args"][0])
    }
    if not plates:
        return PartlyObserved.reduce(*NumpyroSpace.trace(model, args, kwargs))
    _check_inside(sites, plates)
    groups = _groups(sites, plates)
    axes = {name: _axes(site, plates) for name, site in latent_sites(sites)[0].items()}
    with_latent = frozenset(plate for found in axes.values() for plate, _ in found)
    observed = frozenset(name for group in groups for name in group.sites)
    without = WithoutRows(model, plates, with_latent, observed)
    space, example = NumpyroSpace.trace(without, args, kwargs)
    if space.discrete:
        raise ValueError(
            f"the latent sites {', '.join(space.discrete)} are discrete, and cannot be summed out of a model with "
            f"{_listed(plates)}: leave out subsample_size, or marginalize them."
        )
    sizes = tuple((name, size) for name, (size, _) in plates.items())
    replay = Replay(model, sizes, tuple(axes.items()), space.args, space.kwargs, space.held)
    prior, example = PartlyObserved.reduce(space, example)
    draw = prior.constrain(example)
    # Of different lengths, if there are enough indices, so that exchanged axes are noticed.
    grid = {name: jnp.arange(min(size - 1, 2 + number)) for number, (name, size) in enumerate(sizes)}
    try:
        eqx.filter_eval_shape(replay, draw, grid)
    except Exception as error:
        raise ValueError(
            f"JAX cannot trace the model for other indices of {_listed(plates)}. Its Python code may not use the "
            "values of its arguments or of the indices, for example in an `if` or as a size: use jax.numpy.where, "
            "and take sizes from shapes. Data must be arrays of JAX, and their axes those of the plates."
        ) from error
    num_rows = max(group.num_entries for group in groups)
    if num_rows > MAX_ROWS:
        raise ValueError(
            f"{_listed(plates)} have {num_rows:,} tuples of indices, but at most {MAX_ROWS:,} can be rows of a fit."
        )
    if len(plates) == 1:
        likelihood = _RowsLikelihood(replay)
    else:
        likelihood = _TuplesLikelihood(replay, groups, num_rows)
        for point in checked_draws(prior, draw):
            _check_tuples(likelihood, point, grid)
    batch_size = max(math.prod(plates[plate][1] for plate in group.plates) for group in groups)
    return with_likelihood(prior, likelihood, RowNumbers(num_rows), batch_size, draw), example


def _listed(plates: dict[str, Any]) -> str:
    return f"the subsampled plate{'s' * (len(plates) > 1)} {', '.join(plates)}"


def _axes(site: Any, plates: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    """The axes of the value of a latent site in the plates that it is inside."""
    return tuple((plate, dim - site["fn"].event_dim) for plate, dim in plates_of(site, plates).items())


def _groups(sites: dict, plates: dict[str, tuple[int, int]]) -> tuple[_Group, ...]:
    names: dict[tuple[str, ...], list[str]] = {}
    for name, site in sites.items():
        if site["type"] == "sample" and site["is_observed"]:
            inside = plates_of(site, plates)
            names.setdefault(tuple(plate for plate in plates if plate in inside), []).append(name)
    return tuple(
        _Group(tuple(found), inside, tuple(plates[plate][0] for plate in inside))
        for inside, found in names.items()
        if inside
    )


def _check_inside(sites: dict, plates: dict[str, Any]) -> None:
    inside = {name: site for name, site in sites.items() if plates_of(site, plates)}
    partly = [name.removesuffix("_unobserved") for name in inside if _is_partly_observed(name, inside)]
    if partly:
        raise ValueError(
            f"the sites {', '.join(partly)} with obs_mask are inside {_listed(plates)}; leave out the rows that are "
            "not observed, or subsample_size."
        )
    fixed = [n for n, s in inside.items() if s["type"] == "param" and s["kwargs"].get("event_dim") is not None]
    if fixed:
        raise ValueError(
            f"the sites {', '.join(fixed)} are numpyro.param with event_dim inside {_listed(plates)}; make them "
            "arguments of the model, with numpyro.subsample."
        )
    observed = [s for s in inside.values() if s["type"] == "sample" and s["is_observed"]]
    for plate in plates:
        found = [s for s in observed if plate in plates_of(s, plates)]
        if not any(not is_factor(s) or jnp.ndim(bare(s["fn"]).log_factor) for s in found):
            raise ValueError(f"the subsampled plate {plate} has no observed site with one value for each row.")


def _is_partly_observed(name: str, sites: dict) -> bool:
    stem = name.removesuffix("_unobserved")
    return stem != name and f"{stem}_observed" in sites and not sites[name].get("is_observed", True)


def _check_tuples(likelihood: _TuplesLikelihood, draw: Draw, grid: dict[str, Array]) -> None:
    """Raise unless a tuple of indices alone has the same likelihood as in a grid with others."""
    together = _jitted(likelihood.replay, draw, grid)
    for group in likelihood.groups:
        points = jnp.meshgrid(*(grid[plate] for plate in group.plates), indexing="ij")
        tuples = dict(zip(group.plates, map(jnp.ravel, points), strict=True))
        alone = _jitted(group.log_likelihoods, likelihood.replay, draw, tuples)
        for name, values in alone.items():
            expected = np.asarray(together[name]).ravel()
            if not np.allclose(values, expected, **rounding(expected), equal_nan=True):
                raise ValueError(
                    f"the log-likelihood of the site {name} at one index of each of {_listed(grid)} depends on the "
                    "other indices: it must not sum, average or normalize over them."
                )


@eqx.filter_jit
def _jitted(fn: Callable, *args: Any) -> Any:
    return fn(*args)

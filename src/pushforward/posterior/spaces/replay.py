"""Replays of a NumPyro model at chosen indices of its subsampled plates."""

from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Int, PyTree
from numpyro import handlers
from numpyro.primitives import Messenger

from pushforward.posterior.spaces.arguments import unbind
from pushforward.posterior.spaces.preparation import prepared


class AtIndices(Messenger):
    """Replays plates with other indices.

    Args:
        fn: the model.
        indices: the indices of each plate, by its name.
    """

    def __init__(self, fn: Callable, indices: Mapping[str, Array]):
        self.indices = indices
        super().__init__(fn)

    def process_message(self, msg: Any) -> None:
        """Set the indices of a plate.

        Args:
            msg: the message of a site.
        """
        if msg["type"] == "plate" and msg["name"] in self.indices:
            indices = self.indices[msg["name"]]
            msg["value"], msg["args"] = indices, (len(indices), len(indices))


class _WithoutRows(Messenger):
    """Leaves out observed sites from the density, and deterministic sites inside plates."""

    def __init__(self, fn: Callable, observed: frozenset[str], plates: frozenset[str]):
        self.observed, self.plates = observed, plates
        super().__init__(fn)

    def process_message(self, msg: Any) -> None:
        if msg["type"] == "sample" and msg["name"] in self.observed:
            msg["fn"] = msg["fn"].mask(False)
        if msg["type"] == "deterministic" and plates_of(msg, self.plates):
            msg["stop"] = True


class WithoutRows:
    """A model without the likelihood inside its subsampled plates.

    Plates with latent sites have all of their indices, the others as few as the model chose.

    Args:
        model: the model.
        sizes: the number of all and of the chosen indices of each subsampled plate, by its name.
        latent: the plates with latent sites.
        observed: the names of the observed sites inside the plates.
    """

    def __init__(
        self, model: Callable, sizes: dict[str, tuple[int, int]], latent: frozenset[str], observed: frozenset[str]
    ):
        self.model, self.sizes, self.latent, self.observed = model, sizes, latent, observed

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        lengths = {name: size if name in self.latent else some for name, (size, some) in self.sizes.items()}
        replayed = AtIndices(self.model, {name: jnp.arange(length) for name, length in lengths.items()})
        return _WithoutRows(replayed, self.observed, frozenset(self.sizes) - self.latent)(*args, **kwargs)


class Replay(eqx.Module):
    """The log-likelihoods of the observed sites of a model at chosen indices of its subsampled plates.

    Args:
        model: the model.
        sizes: the number of indices of each subsampled plate, by its name.
        latent: the latent sites, each with its axis, from the right, in each of the plates that it is inside.
        args: the positional arguments of the model, as `bind` returns them.
        kwargs: the keyword arguments of the model, as `bind` returns them.
        held: the values of the model's param and mutable sites.
    """

    model: Callable = eqx.field(static=True)
    sizes: tuple[tuple[str, int], ...] = eqx.field(static=True)
    latent: tuple[tuple[str, tuple[tuple[str, int], ...]], ...] = eqx.field(static=True)
    args: tuple
    kwargs: dict[str, Any]
    held: dict[str, Any]

    def __call__(self, draw: PyTree, indices: dict[str, Int[Array, " _"]]) -> dict[str, Array]:
        """The log-likelihood of each site that is inside one of the plates, without the plates' factors.

        The axes are those of the plates that the site is inside, in the order of `sizes`; all others are summed.

        Args:
            draw: a draw.
            indices: the indices of each of the plates.
        """
        latent = {}
        for name, axes in self.latent:
            latent[name] = draw[name]
            for plate, axis in axes:
                latent[name] = jnp.take(latent[name], indices[plate], axis)
        replayed = AtIndices(prepared(self.model, self.held), indices)
        seeded = handlers.substitute(handlers.seed(replayed, 0), data=latent)
        sites = handlers.trace(seeded).get_trace(*unbind(self.args), **unbind(self.kwargs))
        found = {}
        for name, site in sites.items():
            plates = plates_of(site, dict(self.sizes))
            if plates and site["type"] == "sample" and site["is_observed"]:
                values = site["fn"].log_prob(site["value"])
                # The scale of the site contains those of the plates; NumPyro has none where all indices are chosen.
                scale = 1.0 if site["scale"] is None else site["scale"]
                for plate, size in self.sizes:
                    scale = scale * len(indices[plate]) / size if plate in plates else scale
                kept = sorted(plates.values())
                others = tuple(axis for axis in range(-values.ndim, 0) if axis not in kept)
                order = [kept.index(plates[plate]) for plate, _ in self.sizes if plate in plates]
                found[name] = jnp.transpose(jnp.sum(values * scale, others), order)
        return found


def plates_of(site: Any, names: Any) -> dict[str, int]:
    """The axes, from the right, of those of some plates that a site is inside.

    Args:
        site: a site.
        names: the names of the plates.
    """
    return {frame.name: frame.dim for frame in site.get("cond_indep_stack", ()) if frame.name in names}

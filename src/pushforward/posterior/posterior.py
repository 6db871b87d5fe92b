"""The result of a fit: draws, densities, diagnostics, files."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward import serialization
from pushforward.flow import Flow
from pushforward.posterior.diagnostics import Diagnostics, pareto_smooth
from pushforward.posterior.target import Draw, Target

# As many of the weighted draws are kept as hold this many numbers, so that files stay small.
POOL_SIZE = 2_000_000
SMALLEST_POOL = 10_000


class TracePoint(NamedTuple):
    """A moment of a fit: the stage, gradient evaluations and seconds so far, and the ELBO then."""

    stage: str
    evaluations: int
    seconds: float
    elbo: float


class Posterior(eqx.Module):
    """A fitted posterior.

    Attributes:
        target: what was fitted.
        flow: the fit, in the target's unconstrained coordinates.
        diagnostics: how good it is, with a verdict.
        trace: how the ELBO went.
    """

    target: Target
    flow: Flow
    diagnostics: Diagnostics
    trace: tuple[TracePoint, ...]
    pool: Float[Array, "pool dim"]
    pool_weights: Float[Array, " pool"]

    @classmethod
    def of(
        cls,
        target: Target,
        flow: Flow,
        diagnostics: Diagnostics,
        trace: list[TracePoint],
        draws: Float[Array, "draws dim"],
        log_weights: Float[np.ndarray, " draws"],
    ) -> "Posterior":
        """A posterior that keeps some of the draws that it was judged by, with their smoothed weights."""
        log_weights = np.where(np.isfinite(log_weights), log_weights, -np.inf)
        if not np.isfinite(log_weights).any():
            log_weights = np.zeros_like(log_weights)
        num = min(len(draws), max(SMALLEST_POOL, POOL_SIZE // target.dim))
        weights = np.exp(pareto_smooth(log_weights)[0][:num])
        weights = jnp.asarray(weights / weights.sum(), draws.dtype)
        return cls(target, flow, diagnostics, tuple(trace), draws[:num], weights)

    def sample(self, key: PRNGKeyArray, num_samples: int = 1000) -> Draw:
        """Draws of the fitted flow: a pytree like the target's example, or a dict of sites, with a leading axis."""
        return self._constrain(self.flow.sample(key, (num_samples,)))

    def resample(self, key: PRNGKeyArray, num_samples: int = 1000) -> Draw:
        """Draws corrected by Pareto-smoothed importance weights.

        They are taken by systematic resampling from the fresh draws that the fit was judged by; a draw of large
        weight can come more than once.
        """
        offset_key, order_key = jr.split(key)
        points = (jnp.arange(num_samples) + jr.uniform(offset_key)) / num_samples
        cumulative = jnp.cumsum(self.pool_weights)
        rows = jnp.searchsorted(cumulative / cumulative[-1], points)
        return self._constrain(self.pool[jr.permutation(order_key, rows)])

    def log_prob(self, draws: Draw) -> Float[Array, " draws"]:
        """The fitted log-density of draws, with one leading axis, in the space of the draws (in nats)."""

        def one(draw):
            u = self.target.unconstrain(draw)
            return u, self.target.log_volume(u)

        u, log_volume = jax.vmap(one)(draws)
        return self.flow.log_prob(u) - log_volume

    def to_arviz(self, key: PRNGKeyArray | None = None, num_samples: int = 4000) -> Any:
        """The posterior for ArviZ: `InferenceData`, or `DataTree` from ArviZ 1.0 on.

        The draws are the flow's if the verdict is "good", else weighted ones. The diagnostics are the attributes of
        the group.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # ArviZ 0.x announces 1.0, which is served too
            import arviz  # here, for it takes longer to import than all else together
        key = jr.key(0) if key is None else key
        draws = (self.sample if self.diagnostics.verdict == "good" else self.resample)(key, num_samples)
        groups: dict[str, Any] = {
            "posterior": {n.replace("/", "."): np.asarray(value)[None] for n, value in named(draws).items()}
        }
        # ArviZ 1.0 takes the groups as one dict.
        data = arviz.from_dict(groups) if int(arviz.__version__.split(".")[0]) >= 1 else arviz.from_dict(**groups)
        facts = {n: getattr(self.diagnostics, n) for n in Diagnostics.__dataclass_fields__ if n != "reasons"}
        data["posterior"].attrs.update(facts | {"reasons": " ".join(self.diagnostics.reasons)})
        return data

    def save(self, path: str | Path) -> None:
        """Save to one file, without the model's density or code; `pushforward.load` reads it.

        What the model computes from its sites, its deterministic sites, is left behind with the code.

        Raises:
            ValueError: if the support of a site depends on another site, for then draws need the model's code.
        """
        serialization.save(path, eqx.tree_at(lambda p: p.target, self, self.target.detached()))

    def _constrain(self, u: Float[Array, "n dim"]) -> Draw:
        return _constrain(self.target, u)


@eqx.filter_jit
def _constrain(target: Target, u: Float[Array, "n dim"]) -> Draw:
    return jax.vmap(target.constrain)(u)


def named(draws: Draw) -> dict[str, Array]:
    """Draws as a flat dict; the names of nested ones are joined by dots, and a bare array is called x."""
    return {
        ".".join(str(getattr(k, "key", getattr(k, "idx", getattr(k, "name", k)))) for k in path) or "x": value
        for path, value in jax.tree.leaves_with_path(draws)
    }

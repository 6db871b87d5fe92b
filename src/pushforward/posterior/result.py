"""The result of a fit: draws, densities, diagnostics, files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from pushforward import serialization
from pushforward.flow import Flow
from pushforward.posterior.arviz import to_arviz
from pushforward.posterior.diagnostics import Diagnostics
from pushforward.posterior.pareto import pareto_smooth
from pushforward.posterior.refine import Chains, Method, refine
from pushforward.posterior.target import Draw, Target, constrain
from pushforward.training import History

# As many of the weighted draws are kept as hold this many numbers, so that files stay small.
POOL_SIZE = 2_000_000
SMALLEST_POOL = 10_000


class Posterior(eqx.Module):
    """A fitted posterior.

    Attributes:
        target: what was fitted.
        flow: the fit, in the target's unconstrained coordinates.
        diagnostics: how good it is, with a verdict.
        history: of the training; its losses are minus the ELBO.
    """

    target: Target
    flow: Flow
    diagnostics: Diagnostics
    history: History
    pool: Float[Array, "pool dim"]
    pool_weights: Float[Array, " pool"]

    @staticmethod
    def upgraded_fields(fields: dict[str, Any]) -> dict[str, Any]:
        """The fields of a posterior of version 0.1.0, which had a trace instead of a history."""
        if "trace" not in fields:
            return fields
        kept = {name: value for name, value in fields.items() if name != "trace"}
        return kept | {"history": History(np.zeros(0), fields["trace"])}

    @classmethod
    def of(
        cls,
        target: Target,
        flow: Flow,
        diagnostics: Diagnostics,
        history: History,
        draws: Float[np.ndarray, "draws dim"],
        log_weights: Float[np.ndarray, " draws"],
    ) -> "Posterior":
        """A posterior that keeps some of the draws that it was judged by, with their smoothed weights."""
        log_weights = np.where(np.isfinite(log_weights), log_weights, -np.inf)
        if not np.isfinite(log_weights).any():
            log_weights = np.zeros_like(log_weights)
        num = min(len(draws), max(SMALLEST_POOL, POOL_SIZE // target.dim))
        smoothed = pareto_smooth(log_weights)[0][:num]
        top = smoothed.max()
        weights = np.exp(smoothed - top) if np.isfinite(top) else np.ones(num)
        weights = jnp.asarray(weights / weights.sum(), draws.dtype)
        return cls(target, flow, diagnostics, history, jnp.asarray(draws[:num]), weights)

    def sample(self, key: PRNGKeyArray, num_samples: int = 1000) -> Draw:
        """Draws of the fitted flow: a pytree like the target's example, or a dict of sites, with a leading axis."""
        return constrain(self.target, self.flow.sample(key, (num_samples,)))

    def resample(self, key: PRNGKeyArray, num_samples: int = 1000) -> Draw:
        """Draws corrected by Pareto-smoothed importance weights.

        They are taken by systematic resampling from the fresh draws that the fit was judged by; a draw of large
        weight can come more than once.
        """
        offset_key, order_key = jr.split(key)
        points = (jnp.arange(num_samples) + jr.uniform(offset_key)) / num_samples
        cumulative = jnp.cumsum(self.pool_weights)
        rows = jnp.searchsorted(cumulative / cumulative[-1], points)
        return constrain(self.target, self.pool[jr.permutation(order_key, rows)])

    def refine(self, key: PRNGKeyArray, *, method: Method = "nuts", **options: Any) -> Chains:
        """Exact draws by Markov chains that the flow preconditions, with R-hat and effective sample size.

        For where the verdict is "reweight" or "unreliable" and the flow is near the posterior yet; other modes than
        the flow's are as invisible to chains. Options are those of `pushforward.posterior.refine.refine`: num_warmup,
        num_samples, num_chains and progress.
        """
        return refine(self.target, self.flow, key, method=method, **options)

    def log_prob(self, draws: Draw) -> Float[Array, " draws"]:
        """The fitted log-density of draws, with one leading axis, in the space of the draws (in nats)."""

        def one(draw):
            u = self.target.unconstrain(draw)
            return u, self.target.log_volume(u)

        u, log_volume = jax.vmap(one)(draws)
        return self.flow.log_prob(u) - log_volume

    def to_arviz(
        self,
        key: PRNGKeyArray | None = None,
        num_samples: int = 4000,
        *,
        coords: dict[str, Sequence] | None = None,
        dims: dict[str, Sequence[str]] | None = None,
    ) -> Any:
        """The posterior for ArviZ: `InferenceData`, or `DataTree` from ArviZ 1.0 on.

        The draws are the flow's if the verdict is "good", else weighted ones. The diagnostics are the attributes of
        the group. NumPyro's plates and PyMC's coordinates name the axes, and a NumPyro model also gives the groups
        log_likelihood, posterior_predictive and observed_data.

        Args:
            key: for the draws.
            num_samples: how many.
            coords: values along named dimensions, beside or instead of the model's.
            dims: names of the axes of variables, beside or instead of the model's.
        """
        draw_key, predict_key = jr.split(jr.key(0) if key is None else key)
        draws = (self.sample if self.diagnostics.verdict == "good" else self.resample)(draw_key, num_samples)
        facts = {n: getattr(self.diagnostics, n) for n in Diagnostics.__dataclass_fields__ if n != "reasons"}
        facts["reasons"] = " ".join(self.diagnostics.reasons)
        return to_arviz(self.target, jax.tree.map(lambda a: a[None], draws), facts, predict_key, coords, dims)

    def save(self, path: str | Path) -> None:
        """Save to one file, without the model's density or code; `pushforward.load` reads it.

        What the model computes from its sites, its deterministic sites, is left behind with the code.

        Raises:
            ValueError: if the support of a site depends on another site, for then draws need the model's code.
        """
        serialization.save(path, eqx.tree_at(lambda p: p.target, self, self.target.detached()))

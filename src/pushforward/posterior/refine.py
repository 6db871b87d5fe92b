"""Exact draws: Markov chains preconditioned by the fitted flow.

A fit that is not exact still has nearly the shape of the posterior. In the flow's coordinates the posterior is close
to the flow's base, so NUTS does not have to sample funnels or very different scales; and with the flow as its proposal,
an independence sampler moves far in one step. Both leave the posterior invariant: once the chains have converged, their
draws are exact, even if the flow is not.

References:
    Hoffman et al., NeuTra-lizing Bad Geometry in Hamiltonian Monte Carlo Using Neural Transport (2019).
    https://arxiv.org/abs/1903.03704
    Tierney, Markov Chains for Exploring Posterior Distributions (1994), section 2.3.3, on independence chains.
"""

import os
from functools import partial
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpyro.infer import MCMC, NUTS

from pushforward.files import write_text
from pushforward.flow import Flow
from pushforward.posterior.arviz import Coords, Dims, rhat_and_ess, to_arviz
from pushforward.posterior.target import Draw, Target, constrain, finite_or_zero
from pushforward.posterior.verdict.assessment import check_fit
from pushforward.reports.blocks import Section, Table
from pushforward.reports.columns import by_scalar
from pushforward.reports.figures import plot_pairs
from pushforward.reports.page import cell
from pushforward.reports.posterior import parameters, plot_marginals, posterior_page
from pushforward.reports.summary import HEAD, Summary, summarize
from pushforward.reports.verdicts import of_chains
from pushforward.serialization import Picklable, save
from pushforward.training.compilation import jit_low_concurrency, one_blas_thread
from pushforward.training.progress import in_notebook, on_terminal

Method = Literal["nuts", "independence"]

# Both as recommended by Vehtari et al. (2021): https://arxiv.org/abs/1903.08008
MAX_RHAT = 1.01
MIN_ESS_PER_CHAIN = 100
# A few divergences can be false positives, but not more than one in a thousand trajectories.
MAX_DIVERGED_FRACTION = 1e-3


class Chains(Picklable):
    """Draws of Markov chains.

    Attributes:
        target: the posterior.
        unconstrained: the draws, in the target's unconstrained coordinates.
        rhat: the largest rank-normalized split R-hat over coordinates; 1 when the chains agree.
        ess: the smallest effective sample size over coordinates, of the bulk and of the tails.
        acceptance: the mean acceptance probability.
        divergences: the number of NUTS's trajectories that diverged.
        verdict: "good" if R-hat is below 1.01, the effective sample size is 100 or more for each chain, and at most
            one trajectory in a thousand diverged; else "unreliable".
        reasons: the reasons of the verdict, one sentence each.
    """

    target: Target
    unconstrained: Float[Array, "chains draws dim"]
    rhat: float
    ess: float
    acceptance: float
    divergences: int
    verdict: Literal["good", "unreliable"]
    reasons: tuple[str, ...]

    @property
    def draws(self) -> Draw:
        """The draws: a pytree like the target's example, or a dict of sites, with leading axes (chains, draws)."""
        return constrain(self.target, self.unconstrained)

    def _columns(self) -> dict[str, Float[np.ndarray, " n"]]:
        """The draws of all chains for each scalar."""
        return by_scalar(constrain(self.target, self.unconstrained.reshape(-1, self.target.dim)))

    def summary(self) -> Summary:
        """The mean, standard deviation and quantiles of each scalar, from all chains."""
        return summarize(self._columns(), [f"{self.unconstrained.shape[0]} chains"], self.verdict)

    def plot(self, kind: Literal["pairs", "marginals"] = "pairs") -> Any:
        """A Matplotlib figure of the draws of the first scalars.

        Args:
            kind: "pairs" or "marginals".

        Raises:
            ValueError: if the kind is unknown.
        """
        if kind not in ("pairs", "marginals"):
            raise ValueError(f'kind must be "pairs" or "marginals", got {kind!r}.')
        return plot_pairs(self._columns()) if kind == "pairs" else plot_marginals(self._columns())

    def report(self, path: str | os.PathLike, *, title: str = "chains") -> None:
        """Write one self-contained HTML page: verdict, summary, interactive plots and diagnostics.

        Args:
            path: the path of the page; its folder must exist.
            title: the title of the page.
        """
        sections = [parameters(self._columns(), self.summary()), Section("Diagnostics", [self._diagnostics()])]
        write_text(path, posterior_page(title, of_chains(self.verdict, self.reasons), sections))

    def _diagnostics(self) -> Table:
        rows = [
            ("R-hat", f"{self.rhat:.3f}", "how much the chains differ; 1 when they agree, at most 1.01 is wanted"),
            ("effective sample size", f"{self.ess:,.0f}", "the number of independent draws of equal information"),
            ("acceptance", f"{self.acceptance:.1%}", "the fraction of proposed steps that were accepted"),
            ("divergences", f"{self.divergences}", "trajectories that failed; a few hint at regions that are missed"),
        ]
        return Table(rows, ("quantity", "estimate", "meaning"))

    def _repr_html_(self) -> str:
        summary = self.summary()
        table = Table(summary.cells, HEAD, " · ".join(summary.notes))
        return cell(of_chains(self.verdict, self.reasons), table, self._diagnostics())

    def to_arviz(
        self,
        key: PRNGKeyArray | None = None,
        *,
        log_likelihood: bool = False,
        predictive: bool = False,
        coords: Coords | None = None,
        dims: Dims | None = None,
    ) -> Any:
        """The draws for ArviZ, in the form of `Posterior.to_arviz`.

        Args:
            key: the key for observations drawn from the model, and for discrete sites that the density sums out.
            log_likelihood: as in `Posterior.to_arviz`.
            predictive: as in `Posterior.to_arviz`; it needs a key.
            coords: the values along named dimensions, in addition to the model's or instead of them.
            dims: the names of the axes of variables, in addition to the model's or instead of them.
        """
        attributes = {n: getattr(self, n) for n in ("rhat", "ess", "acceptance", "divergences", "verdict")}
        return to_arviz(
            self.target,
            self.draws,
            attributes,
            key,
            log_likelihood=log_likelihood,
            predictive=predictive,
            coords=coords,
            dims=dims,
        )

    def save(self, path: str | os.PathLike) -> None:
        """Save to one file, without the model's density and code; `pushforward.load` reads it.

        Args:
            path: the path of the file.

        Raises:
            ValueError: if the support of a site depends on another site, because draws then need the model's code.
        """
        save(path, self.as_saved())

    def as_saved(self) -> "Chains":
        """The chains without the model's density and code."""
        return eqx.tree_at(lambda p: p.target, self, self.target.detached())


@one_blas_thread()
def run_chains(
    target: Target,
    flow: Flow,
    key: PRNGKeyArray,
    *,
    method: Method = "nuts",
    num_warmup: int = 500,
    num_samples: int = 1000,
    num_chains: int = 4,
    progress: bool = False,
) -> Chains:
    """Run chains in the coordinates of a flow.

    Args:
        target: the posterior to draw from.
        flow: a flow of shape (target.dim,), in the target's unconstrained coordinates, over a base on the whole space.
        key: the key for all randomness.
        method: "nuts", in the flow's coordinates; or "independence", Metropolis-Hastings with draws of the flow as
            proposals, which is far cheaper but gets stuck where the posterior's tails are heavier than the flow's.
        num_warmup: the number of steps at the beginning of each chain that are discarded; NUTS adapts in them.
        num_samples: the number of draws of each chain.
        num_chains: the number of chains, two or more; they run in parallel.
        progress: whether to show a progress bar.

    Raises:
        ValueError: if a number is too small, the method is unknown, or the flow does not fit the target.
    """
    if num_chains < 2 or num_samples < 4 or num_warmup < 1:
        raise ValueError(
            "refine needs num_chains >= 2 (R-hat compares chains), num_samples >= 4 and num_warmup >= 1, got "
            f"{num_chains}, {num_samples} and {num_warmup}."
        )
    check_fit(target, flow)
    if method == "nuts":
        draws, acceptance, divergences = _nuts(target, flow, key, num_warmup, num_samples, num_chains, progress)
    elif method == "independence":
        draws, acceptance = _independence(target, flow, key, num_warmup, num_samples, num_chains)
        divergences = 0
    else:
        raise ValueError(f'the method must be "nuts" or "independence", got {method!r}.')
    return _with_diagnostics(target, draws, float(acceptance), int(divergences))


class _BasePotential(eqx.Module):
    """Minus the target's log-density in the coordinates of the flow's base."""

    target: Target
    flow: Flow

    def __call__(self, z: Float[Array, " dim"]) -> Float[Array, ""]:
        u, log_det = self.flow.bijection.forward_and_log_det(z)
        return -finite_or_zero(self.target(u)) - log_det


def _nuts(target, flow, key, num_warmup, num_samples, num_chains, progress):
    base = flow.base_distribution
    if base.support.event_dim != 1 or not all(
        bool(jnp.all(base.support(jnp.full(target.dim, end)))) for end in (-1e6, 1e6)
    ):
        raise ValueError(
            f"NUTS needs a flow over a base on the whole space, but the base has support {base.support}; use "
            'method="independence".'
        )
    start_key, run_key = jr.split(key)
    mcmc = MCMC(
        NUTS(potential_fn=_BasePotential(target, flow), target_accept_prob=0.9),
        num_warmup=num_warmup,
        num_samples=num_samples,
        num_chains=num_chains,
        chain_method="vectorized",
        # Its bar overwrites lines, which would fill a log with control characters.
        progress_bar=progress and (on_terminal() or in_notebook()),
    )
    start = _initial_points(target, flow, start_key, num_chains)
    mcmc.run(run_key, init_params=start, extra_fields=("diverging", "accept_prob"))
    z = mcmc.get_samples(group_by_chain=True)
    extra = mcmc.get_extra_fields()
    return _push(flow, z), extra["accept_prob"].mean(), extra["diverging"].sum()


@eqx.filter_jit
def _initial_points(target: Target, flow: Flow, key: PRNGKeyArray, num_chains: int) -> Float[Array, "chains dim"]:
    """Initial points in the base's coordinates: draws of the base, resampled by their weights."""
    draw_key, pick_key = jr.split(key)
    z = flow.base_distribution.sample(draw_key, (100 * num_chains,))
    log_weights = -jax.vmap(_BasePotential(target, flow))(z) - flow.base_distribution.log_prob(z)
    # The square root of the weights makes it unlikely that chains start at the same point.
    return z[jr.categorical(pick_key, 0.5 * finite_or_zero(log_weights), shape=(num_chains,))]


@eqx.filter_jit
def _push(flow: Flow, z: Float[Array, "chains draws dim"]) -> Float[Array, "chains draws dim"]:
    return jax.lax.map(flow.bijection.batched.forward, z)


@jit_low_concurrency
def _independence(target, flow, key, num_warmup, num_samples, num_chains):
    """Accept a draw of q with probability min(1, w' / w), w = p / q."""

    def chain(key):
        draw_key, uniform_key = jr.split(key)
        num = num_warmup + num_samples
        u, log_q = flow.sample_and_log_prob(draw_key, (num,))
        log_weights = finite_or_zero(jax.lax.map(target, u, batch_size=256) - log_q)
        log_uniform = jnp.log(jr.uniform(uniform_key, (num,), u.dtype))

        def step(current, proposed):
            index, log_weight, log_level = proposed
            # A chain that starts at a point of density zero accepts any proposal.
            accepted = (log_level < log_weight - current[1]) | ~jnp.isfinite(current[1])
            current = jax.tree.map(partial(jnp.where, accepted), (index, log_weight), current)
            return current, (current[0], accepted)

        _, (rows, accepted) = jax.lax.scan(step, (0, log_weights[0]), (jnp.arange(num), log_weights, log_uniform))
        return u[rows[num_warmup:]], accepted[num_warmup:].mean()

    draws, acceptance = jax.lax.map(chain, jr.split(key, num_chains))
    return draws, acceptance.mean()


def _with_diagnostics(
    target: Target, draws: Float[Array, "chains draws dim"], acceptance: float, divergences: int
) -> Chains:
    rhats, *sizes = rhat_and_ess(np.asarray(draws), ("bulk", "tail"))
    rhat, ess = float(rhats.max()), float(np.min(sizes))
    needed = MIN_ESS_PER_CHAIN * draws.shape[0]
    reasons = []
    if not rhat <= MAX_RHAT:
        reasons.append(f"R-hat is {rhat:.3f}, above {MAX_RHAT}: the chains disagree; increase num_samples.")
    if not ess >= needed:
        reasons.append(f"The effective sample size is {ess:.0f}, below {needed}; increase num_samples.")
    diverged = f"{divergences} of {draws.shape[0] * draws.shape[1]} trajectories diverged."
    if divergences > MAX_DIVERGED_FRACTION * draws.shape[0] * draws.shape[1]:
        reasons.append(diverged)
    if not np.isfinite(np.asarray(draws)).all():
        reasons.append("Some draws are not finite.")
    verdict = "unreliable" if reasons else "good"
    if not reasons:
        reasons = [f"R-hat is {rhat:.3f}, and the effective sample size is {ess:.0f}."]
        reasons += [diverged] if divergences else []
    return Chains(target, draws, rhat, ess, acceptance, divergences, verdict, tuple(reasons))

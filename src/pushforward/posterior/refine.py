"""Exact draws from a near miss: Markov chains that the fitted flow preconditions.

A fit that is a little off still knows the shape of the posterior. In the flow's coordinates the posterior is nearly
the flow's base, so NUTS walks there without funnels or far scales; and as a proposal the flow makes an independence
sampler that moves far in one step. Both leave the posterior itself invariant: what they return is right however wrong
the flow is, once the chains agree.

References:
    Hoffman et al., NeuTra-lizing Bad Geometry in Hamiltonian Monte Carlo Using Neural Transport (2019).
    https://arxiv.org/abs/1903.03704
    Tierney, Markov Chains for Exploring Posterior Distributions (1994), section 2.3.3, on independence chains.
"""

from functools import partial
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from numpyro.infer import MCMC, NUTS

from pushforward.flow import Flow
from pushforward.posterior.arviz import to_arviz
from pushforward.posterior.assessment import check_flow
from pushforward.posterior.target import Draw, Target, constrain

Method = Literal["nuts", "independence"]

# Vehtari et al. (2021) ask for both: https://arxiv.org/abs/1903.08008
LARGEST_RHAT = 1.01
SMALLEST_ESS_PER_CHAIN = 100
# More diverged trajectories than one in a thousand are not chance.
LARGEST_DIVERGED = 1e-3


class Chains(eqx.Module):
    """Draws of Markov chains.

    Attributes:
        target: what they are draws of.
        unconstrained: the draws, in the target's unconstrained coordinates.
        rhat: the largest rank-normalised split R-hat over coordinates; 1 when the chains agree.
        ess: the smallest effective sample size over coordinates, for the bulk and for the tails.
        acceptance: the mean acceptance probability.
        divergences: how many of NUTS's trajectories diverged.
        verdict: "good" if R-hat is below 1.01, each chain is worth 100 draws or more, and no more than one trajectory
            in a thousand diverged; else "unreliable".
        reasons: why, one sentence each.
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

    def to_arviz(self, key: PRNGKeyArray | None = None, **names: Any) -> Any:
        """The draws for ArviZ, as `Posterior.to_arviz` gives them."""
        facts = {n: getattr(self, n) for n in ("rhat", "ess", "acceptance", "divergences", "verdict")}
        return to_arviz(self.target, self.draws, facts, jr.key(0) if key is None else key, **names)


def refine(
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
        target: what to draw from.
        flow: of shape (target.dim,), in the target's unconstrained coordinates, over a base on the whole space.
        key: for all randomness.
        method: "nuts", in the flow's coordinates; or "independence", Metropolis with the flow's draws as proposals,
            far cheaper, but stuck where the posterior's tails are heavier than the flow's.
        num_warmup: steps of each chain that are left out, in which NUTS also tunes itself.
        num_samples: draws of each chain.
        num_chains: how many chains, two or more; they run side by side.
        progress: whether to show a progress bar.

    Raises:
        ValueError: if a number is too small, the method is unknown, or the flow does not fit the target.
    """
    if num_chains < 2 or num_samples < 4 or num_warmup < 1:
        raise ValueError(
            "refine needs num_chains >= 2 (chains are judged by each other), num_samples >= 4 and num_warmup >= 1, got "
            f"{num_chains}, {num_samples} and {num_warmup}."
        )
    check_flow(target, flow)
    if method == "nuts":
        draws, acceptance, divergences = _nuts(target, flow, key, num_warmup, num_samples, num_chains, progress)
    elif method == "independence":
        draws, acceptance = _independence(target, flow, key, num_warmup, num_samples, num_chains)
        divergences = 0
    else:
        raise ValueError(f'the method must be "nuts" or "independence", got {method!r}.')
    return _judged(target, draws, float(acceptance), int(divergences))


class _Pulled(eqx.Module):
    """Minus the logarithm of the target's density in the flow's coordinates."""

    target: Target
    flow: Flow

    def __call__(self, z: Float[Array, " dim"]) -> Float[Array, ""]:
        u, log_det = self.flow.bijection.forward_and_log_det(z)
        return -self.target(u) - log_det


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
        NUTS(potential_fn=_Pulled(target, flow), target_accept_prob=0.9),
        num_warmup=num_warmup,
        num_samples=num_samples,
        num_chains=num_chains,
        chain_method="vectorized",
        progress_bar=progress,
    )
    start = _start(target, flow, start_key, num_chains)
    mcmc.run(run_key, init_params=start, extra_fields=("diverging", "accept_prob"))
    z = mcmc.get_samples(group_by_chain=True)
    extra = mcmc.get_extra_fields()
    return _push(flow, z), extra["accept_prob"].mean(), extra["diverging"].sum()


@eqx.filter_jit
def _start(target: Target, flow: Flow, key: PRNGKeyArray, num_chains: int) -> Float[Array, "chains dim"]:
    """Starts in the base's coordinates: draws of it, by their weights, so that none begins where there is no mass."""
    draw_key, pick_key = jr.split(key)
    z = flow.base_distribution.sample(draw_key, (100 * num_chains,))
    log_weights = -jax.vmap(_Pulled(target, flow))(z) - flow.base_distribution.log_prob(z)
    # The root of the weights keeps the starts apart.
    log_weights = jnp.where(jnp.isfinite(log_weights), 0.5 * log_weights, -jnp.inf)
    return z[jr.categorical(pick_key, log_weights, shape=(num_chains,))]


@eqx.filter_jit
def _push(flow: Flow, z: Float[Array, "chains draws dim"]) -> Float[Array, "chains draws dim"]:
    return jax.lax.map(lambda chain: flow.bijection.batched("forward_and_log_det", (chain.T,))[0].T, z)


@eqx.filter_jit
def _independence(target, flow, key, num_warmup, num_samples, num_chains):
    """Accept a draw of q with probability min(1, w' / w), w = p / q."""

    def chain(key):
        draw_key, uniform_key = jr.split(key)
        num = num_warmup + num_samples
        u, log_q = flow.sample_and_log_prob(draw_key, (num,))
        log_weights = jax.lax.map(target, u, batch_size=256) - log_q
        log_weights = jnp.where(jnp.isnan(log_weights), -jnp.inf, log_weights)
        log_uniform = jnp.log(jr.uniform(uniform_key, (num,), u.dtype))

        def step(current, proposed):
            index, log_weight, log_level = proposed
            # A chain that began where there is no mass leaves it at once.
            accepted = (log_level < log_weight - current[1]) | ~jnp.isfinite(current[1])
            current = jax.tree.map(partial(jnp.where, accepted), (index, log_weight), current)
            return current, (current[0], accepted)

        _, (rows, accepted) = jax.lax.scan(step, (0, log_weights[0]), (jnp.arange(num), log_weights, log_uniform))
        return u[rows[num_warmup:]], accepted[num_warmup:].mean()

    draws, acceptance = jax.lax.map(chain, jr.split(key, num_chains))
    return draws, acceptance.mean()


def _judged(target: Target, draws: Float[Array, "chains draws dim"], acceptance: float, divergences: int) -> Chains:
    import arviz

    chains = {"u": np.asarray(draws)}
    data: Any = arviz.convert_to_dataset(chains)
    found: list[Any] = [arviz.rhat(data), *(arviz.ess(data, method=m) for m in ("bulk", "tail"))]
    rhats, *sizes = (np.asarray(each["u"]) for each in found)
    rhat, ess = float(rhats.max()), float(np.min(sizes))
    needed = SMALLEST_ESS_PER_CHAIN * draws.shape[0]
    reasons = []
    if not rhat <= LARGEST_RHAT:
        reasons.append(f"R-hat is {rhat:.3f}, above {LARGEST_RHAT}: the chains disagree; run longer ones.")
    if not ess >= needed:
        reasons.append(f"The chains are worth {ess:.0f} independent draws, fewer than {needed}; run longer ones.")
    diverged = f"{divergences} of {draws.shape[0] * draws.shape[1]} trajectories diverged."
    if divergences > LARGEST_DIVERGED * draws.shape[0] * draws.shape[1]:
        reasons.append(diverged)
    if not np.isfinite(chains["u"]).all():
        reasons.append("Some draws are not finite.")
    verdict = "unreliable" if reasons else "good"
    if not reasons:
        reasons = [f"R-hat is {rhat:.3f}, and the chains are worth {ess:.0f} independent draws."]
        reasons += [diverged] if divergences else []
    return Chains(target, draws, rhat, ess, acceptance, divergences, verdict, tuple(reasons))

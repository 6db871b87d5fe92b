"""Methods of other libraries on the same posteriors.

NumPyro's guides train with Adam at each learning rate of a small grid, each for the seconds that `fit_posterior` took,
without counting compilation; the best ELBO counts. NUTS runs 4 chains of 1,000 + 1,000 draws one after the other.
FlowJAX, if it is installed, trains its masked autoregressive flow in the same way as the guides.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.optim
from jaxtyping import Array, PRNGKeyArray
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.infer import MCMC, NUTS, SVI, Predictive, Trace_ELBO, autoguide

import pushforward as pf
from benchmarks.posteriors.methods import NUM_DRAWS, Outcome
from benchmarks.posteriors.registry import Problem

RATES = (1e-3, 1e-2)
CHUNK = 1_000
NUM_ELBO_DRAWS = 20_000
FLOWJAX_BATCH = 256
FLOWJAX_TRIAL = 500


def arguments_of(problem: Problem) -> dict[str, Any]:
    return {k: jnp.asarray(v) if isinstance(v, np.ndarray) else v for k, v in problem.data.items()}


def fit_guide(make: Callable, problem: Problem, seed: int, allowance: float) -> Outcome:
    """A NumPyro guide at its best learning rate."""
    train_key, choice_key, elbo_key, draw_key = jr.split(jr.key(seed), 4)
    start = time.perf_counter()
    arguments = arguments_of(problem)
    tried = []
    for rate in RATES:
        guide = make(problem.model)
        params, steps = train_guide(problem.model, guide, arguments, rate, train_key, allowance)
        guide, params = as_gaussian(problem.model, guide, params, arguments)
        elbo = guide_elbo(problem.model, guide, params, arguments, choice_key)
        tried.append((elbo, rate, steps, guide, params))
    _, rate, steps, guide, params = max(tried, key=lambda found: np.nan_to_num(found[0], nan=-np.inf))
    seconds = time.perf_counter() - start
    draws = with_deterministic(problem, guide.sample_posterior(draw_key, params, sample_shape=(NUM_DRAWS,)))
    elbo = guide_elbo(problem.model, guide, params, arguments, elbo_key)
    return Outcome({"sample": draws}, elbo, seconds, {"rate": rate, "evaluations": steps})


def train_guide(
    model: Callable, guide: Callable, arguments: dict, rate: float, key: PRNGKeyArray, allowance: float
) -> tuple[dict, int]:
    """Train for the given seconds, without compilation; the parameters and the number of steps."""
    svi = SVI(model, guide, numpyro.optim.Adam(rate), Trace_ELBO())
    state = svi.init(key, **arguments)

    @jax.jit
    def chunk(state):
        return jax.lax.scan(lambda s, _: (svi.stable_update(s, **arguments)[0], None), state, length=CHUNK)[0]

    jax.block_until_ready(chunk(state))
    steps, start = 0, time.perf_counter()
    while time.perf_counter() - start < allowance:
        state, steps = jax.block_until_ready(chunk(state)), steps + CHUNK
    return svi.get_params(state), steps


def as_gaussian(model: Callable, guide: Callable, params: dict, arguments: dict) -> tuple[Callable, dict]:
    """Laplace's approximation trains a point; this is the Gaussian that it stands for. Other guides stay."""
    if not isinstance(guide, autoguide.AutoLaplaceApproximation):
        return guide, params
    affine = guide.get_transform(params)
    gaussian = autoguide.AutoMultivariateNormal(model)
    SVI(model, gaussian, numpyro.optim.Adam(1e-3), Trace_ELBO()).init(jr.key(0), **arguments)
    return gaussian, {"auto_loc": affine.loc, "auto_scale_tril": affine.scale_tril}


def guide_elbo(model: Callable, guide: Callable, params: dict, arguments: dict, key: PRNGKeyArray) -> float:
    """The mean of log p - log q over fresh draws of the guide."""

    @jax.jit
    def losses(keys):
        def one(key):
            return Trace_ELBO().loss(key, params, model, guide, **arguments)

        return jax.lax.map(one, keys, batch_size=500)

    return -float(losses(jr.split(key, NUM_ELBO_DRAWS)).mean())


def with_deterministic(problem: Problem, draws: dict[str, Array]) -> dict[str, np.ndarray]:
    """Draws of the variables that are compared, those that the model computes among them; all if none is named."""
    if not problem.draws:
        return {name: np.asarray(values) for name, values in draws.items()}
    missing = [name for name in problem.draws if name not in draws]
    if missing:
        draws = draws | Predictive(problem.model, draws, return_sites=missing)(jr.key(0), **arguments_of(problem))
    return {name: np.asarray(draws[name]) for name in problem.draws}


def fit_nuts(problem: Problem, seed: int, allowance: float) -> Outcome:
    """NumPyro's NUTS, which takes the time that it takes."""
    start, processor_start = time.perf_counter(), time.process_time()
    sampler = MCMC(
        NUTS(problem.model),
        num_warmup=1_000,
        num_samples=1_000,
        num_chains=4,
        chain_method="sequential",
        progress_bar=False,
    )
    sampler.run(jr.key(seed), **arguments_of(problem), extra_fields=("num_steps", "diverging"))
    seconds, processor_seconds = time.perf_counter() - start, time.process_time() - processor_start
    chains = {name: np.asarray(v) for name, v in sampler.get_samples(group_by_chain=True).items()}
    fields = sampler.get_extra_fields()
    facts = {
        # Warm-up has no count; it takes about as many as the rest.
        "evaluations": 2 * int(fields["num_steps"].sum()),
        "divergences": int(fields["diverging"].sum()),
        "smallest_ess": float(min(np.min(effective_sample_size(v)) for v in chains.values())),
        "rhat": float(max(np.max(split_gelman_rubin(v)) for v in chains.values())),
        "processor_seconds": processor_seconds,
    }
    draws = {name: v.reshape(-1, *v.shape[2:]) for name, v in chains.items()}
    return Outcome({"sample": with_deterministic(problem, draws)}, None, seconds, facts)


def fit_flowjax(problem: Problem, seed: int, allowance: float) -> Outcome:
    """FlowJAX's masked autoregressive flow, cheap to sample, by its path gradient.

    Raises:
        ImportError: if FlowJAX is not installed.
    """
    import flowjax.flows
    from flowjax.distributions import Normal
    from flowjax.train import fit_to_key_based_loss
    from flowjax.train.losses import ElboLoss

    flow_key, train_key, choice_key, elbo_key, draw_key = jr.split(jr.key(seed), 5)
    start = time.perf_counter()
    target = pf.Target.from_numpyro(problem.model, **problem.data)
    first = flowjax.flows.masked_autoregressive_flow(flow_key, base_dist=Normal(jnp.zeros(target.dim)), invert=False)
    loss = ElboLoss(target, num_samples=FLOWJAX_BATCH, stick_the_landing=True)

    def train(rate, steps):
        options = {"loss_fn": loss, "learning_rate": rate, "steps": steps, "show_progress": False}
        return fit_to_key_based_loss(train_key, first, **options)[0]

    def elbo_of(flow, key):
        draws, log_q = flow.sample_and_log_prob(key, (NUM_ELBO_DRAWS,))
        return float(jnp.mean(jax.lax.map(target, draws, batch_size=500) - log_q))

    # Each training compiles anew: what further steps take is the difference of two.
    ends = [time.perf_counter()]
    for trial in (1, 1, 1 + FLOWJAX_TRIAL):
        train(RATES[0], trial)
        ends.append(time.perf_counter())
    _, short, long = np.diff(ends)
    steps = max(FLOWJAX_TRIAL, int(allowance * FLOWJAX_TRIAL / max(long - short, 1e-3)))
    flows = [train(rate, steps) for rate in RATES]
    elbos = [elbo_of(flow, choice_key) for flow in flows]
    best = int(np.argmax(np.nan_to_num(elbos, nan=-np.inf)))
    seconds = time.perf_counter() - start
    draws = jax.vmap(target.constrain)(flows[best].sample(draw_key, (NUM_DRAWS,)))
    facts = {"rate": RATES[best], "evaluations": steps * FLOWJAX_BATCH}
    return Outcome({"sample": with_deterministic(problem, draws)}, elbo_of(flows[best], elbo_key), seconds, facts)


PEERS: dict[str, Callable[[Problem, int, float], Outcome]] = {
    "AutoNormal": partial(fit_guide, autoguide.AutoNormal),
    "AutoMultivariateNormal": partial(fit_guide, autoguide.AutoMultivariateNormal),
    "AutoLaplaceApproximation": partial(fit_guide, autoguide.AutoLaplaceApproximation),
    "AutoIAFNormal": partial(fit_guide, autoguide.AutoIAFNormal),
    "AutoBNAFNormal": partial(fit_guide, autoguide.AutoBNAFNormal),
    "NUTS": fit_nuts,
    "FlowJAX": fit_flowjax,
}

"""Methods: functions of a problem, a seed and an allowance in seconds, which return draws and figures.

The seconds of a method include compilation, but neither reading the data nor the final draws.
"""

import time
from typing import Any, NamedTuple

import jax
import jax.random as jr
import numpy as np

import pushforward as pf
from benchmarks.posteriors.registry import Problem
from pushforward.posterior.objective import NUM_SAMPLES

NUM_DRAWS = 10_000


class Outcome(NamedTuple):
    """The result of a method.

    Attributes:
        draws: sets of constrained draws by name, each a dict of sites.
        elbo: on fresh draws, in nats; None for methods without one.
        seconds: of the fit, with compilation.
        facts: further results, as JSON.
    """

    draws: dict[str, dict[str, np.ndarray]]
    elbo: float | None
    seconds: float
    facts: dict[str, Any]


def pushforward(problem: Problem, seed: int, allowance: float) -> Outcome:
    """`fit_posterior` with default settings. It ends by itself; its seconds are the allowance of the other methods."""
    fit_key, sample_key, resample_key = jr.split(jr.key(seed), 3)
    start, processor_start = time.perf_counter(), time.process_time()
    posterior = pf.fit_posterior(pf.Target.from_numpyro(problem.model, **problem.data), key=fit_key)
    seconds, processor_seconds = time.perf_counter() - start, time.process_time() - processor_start
    found = posterior.diagnostics
    facts = {name: getattr(found, name) for name in ("elbo_se", "log_evidence", "khat", "ess_fraction", "verdict")}
    facts |= {
        "own_gap": found.gap,
        "reasons": found.reasons,
        "evaluations": NUM_SAMPLES * len(posterior.history.losses),
    }
    facts |= {"stages": last_of_stages(posterior.history), "processor_seconds": processor_seconds}
    draws = {
        "sample": posterior.sample(sample_key, NUM_DRAWS),
        "resample": posterior.resample(resample_key, NUM_DRAWS),
    }
    return Outcome(jax.tree.map(np.asarray, draws), found.elbo, seconds, facts)


def last_of_stages(history) -> dict[str, list[float]]:
    """Gradients, seconds and ELBO at the end of each stage."""
    return {record.stage: [NUM_SAMPLES * record.step, record.seconds, -record.loss] for record in history.evaluations}

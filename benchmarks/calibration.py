"""How often the verdict is right: fits stopped at many budgets, by the verdict of `fit_posterior` and by the truth.

    make calibration                                  # all; writes benchmarks/results/calibration.json (hours)
    make calibration ARGS="--only arK funnel"         # some; the file keeps the others
    make calibration ARGS="--table"                   # print the table of the file

Every fit is assessed before its training and after each chunk of it, as if its budget had ended there. The truth is
known from reference draws and evidences (the published posteriors of `make posteriors`) or exactly (the artificial
posteriors below: modes far apart, heavy tails, a funnel). A fit is bad if KL(q || p) > 0.5 nats, or if the error of a
mean exceeds 0.25 standard deviations. It is good if KL < 0.05, all errors of means are below 0.1 standard deviations,
and all errors of standard deviations below 10 %. Otherwise it is middling.
"""

import argparse
import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist

import pushforward as pf
from benchmarks.posteriors.accuracy import columns, compare
from benchmarks.posteriors.data import find_data
from benchmarks.posteriors.registry import CASES, load
from pushforward.bijections import Triangular
from pushforward.flow import Flow
from pushforward.flows.stack import standard_normal
from pushforward.posterior.objective import NUM_SAMPLES
from pushforward.posterior.search.survey import survey
from pushforward.posterior.verdict.assessment import NUM_DRAWS, Whitened, assess_draws, weighted_draws

RESULTS = Path(__file__).parent / "results" / "calibration.json"
MAX_LOOKS = 12
NUM_COMPARED = 20_000
VERDICTS = ("good", "reweight", "unreliable")
STATES = ("good", "middling", "bad")


class Known(NamedTuple):
    """A density with evidence 1, and a sampler."""

    log_density: Callable
    sample: Callable
    dim: int


def of(d: dist.Distribution) -> Known:
    return Known(d.log_prob, lambda key, n: d.sample(key, (n,)), d.event_shape[0])


def modes(distance: float, weights: tuple[float, ...]) -> Known:
    locs = jnp.stack([jnp.full(3, i * distance) for i in range(len(weights))])
    parts = dist.MultivariateNormal(locs, jnp.eye(3))
    return of(dist.MixtureSameFamily(dist.Categorical(jnp.array(weights)), parts))


def funnel_density(x):
    return dist.Normal(0, 3).log_prob(x[0]) + dist.Normal(0, jnp.exp(x[0] / 2)).log_prob(x[1:]).sum()


def funnel_draws(key, n):
    x = jr.normal(key, (n, 6))
    return jnp.concatenate([3 * x[:, :1], x[:, 1:] * jnp.exp(1.5 * x[:, :1])], 1)


def banana_density(x):
    bent = x.at[1].add(-0.5 * (x[0] ** 2 - 4))
    return dist.Normal(0, jnp.array([2.0, 1.0, 1.0, 0.1])).log_prob(bent).sum()


def banana_draws(key, n):
    x = jr.normal(key, (n, 4)) * jnp.array([2.0, 1.0, 1.0, 0.1])
    return x.at[:, 1].add(0.5 * (x[:, 0] ** 2 - 4))


def skewed_density(x):
    return (dist.Gamma(2.0, 1.0).log_prob(jnp.exp(x)) + x).sum()


# Modes, tails and curvature, each in more than two dimensions.
MADE_UP = {
    "two modes near": modes(1.5, (0.5, 0.5)),
    "two modes": modes(4.0, (0.7, 0.3)),
    "three modes far": modes(8.0, (0.5, 0.3, 0.2)),
    "a small mode": modes(5.0, (0.97, 0.03)),
    "heavy tails": of(dist.MultivariateStudentT(3.0, jnp.zeros(5), jnp.eye(5))),
    "very heavy tails": of(dist.MultivariateStudentT(1.5, jnp.zeros(2), jnp.eye(2))),
    "funnel": Known(funnel_density, funnel_draws, 6),
    "banana": Known(banana_density, banana_draws, 4),
    "skewed": Known(skewed_density, lambda key, n: jnp.log(jr.gamma(key, 2.0, (n, 8))), 8),
}


class Truth(NamedTuple):
    """What a fit is compared with: `log_evidence` is None where it is unknown; `view` gives draws as columns."""

    target: pf.Target
    reference: np.ndarray
    log_evidence: float | None
    view: Callable


def truth(name: str, data: str | None) -> Truth:
    if name in MADE_UP:
        known = MADE_UP[name]
        reference = np.asarray(known.sample(jr.key(123), 100_000))
        return Truth(pf.Target(known.log_density, jnp.zeros(known.dim)), reference, 0.0, np.asarray)
    problem = load(name, find_data(data))
    names = list(problem.draws)

    def view(draws):
        return columns(draws, names)

    target = pf.Target.from_numpyro(problem.model, **problem.data)
    return Truth(target, view(problem.draws), problem.log_evidence, view)


def study(name: str, seed: int, data: str | None) -> list[dict]:
    """The looks at one fit."""
    known = truth(name, data)
    looks = []

    def look(progress):
        # The best flow stays the same while the loss does not improve.
        if not looks or not eqx.tree_equal(looks[-1][1], progress.model):
            looks.append((NUM_SAMPLES * progress.step, progress.model))

    posterior = pf.fit_posterior(known.target, key=jr.key(seed), callback=look)
    keys = jr.split(jr.key(1000 + seed), 3)
    found = survey(known.target, keys[0])
    looks.insert(0, (0, Flow(standard_normal(known.target.dim), found.candidates[0].affine)))
    kept = np.unique(np.linspace(0, len(looks) - 1, MAX_LOOKS).astype(int))
    whole = Whitened(known.target, Triangular(known.target.dim))
    rows = []
    total = NUM_SAMPLES * len(posterior.history.losses)
    for evaluations, flow in [*(looks[i] for i in kept), (total, posterior.flow)]:
        weighed, log_weights = weighted_draws(whole, flow, keys[1], NUM_DRAWS)
        d = assess_draws(found, flow, weighed, log_weights, keys[2])
        draws = jax.vmap(known.target.constrain)(flow.sample(keys[2], (NUM_COMPARED,)))
        errors = compare(known.view(jax.tree.map(np.asarray, draws)), known.reference)
        facts = {n: getattr(d, n) for n in ("elbo", "log_evidence", "khat", "ess_fraction", "verdict")}
        kl = None if known.log_evidence is None else known.log_evidence - d.elbo
        rows.append({"evaluations": evaluations, "kl": kl, "reasons": d.reasons, **facts, **errors})
    return rows


def state(row: dict) -> str:
    kl = row["kl"] if row["kl"] is not None else row["log_evidence"] - row["elbo"]
    if not kl <= 0.5 or not row["mean"] <= 0.25:
        return "bad"
    return "good" if kl < 0.05 and row["mean"] < 0.1 and row["sd"] < 0.1 else "middling"


def table(results: dict) -> str:
    counts = Counter((state(row), row["verdict"]) for rows in results.values() for row in rows)
    lines = [f"| the fit is | {' | '.join(VERDICTS)} | fits |", "|---" * (len(VERDICTS) + 2) + "|"]
    for s in STATES:
        found = [counts[s, v] for v in VERDICTS]
        shares = [f"{n} ({n / max(sum(found), 1):.1%})" for n in found]
        lines.append(f"| {s} | {' | '.join(shares)} | {sum(found)} |")
    wrong = [
        f"{key}: at {row['evaluations']:,} gradients called {row['verdict']}, is {state(row)}: KL {row['kl']}, "
        f"mean off {row['mean']:.2f}, sd {row['sd']:.2f}, ess {row['ess_fraction']:.2f}, k-hat {row['khat']:.2f}"
        for key, rows in results.items()
        for row in rows
        if (state(row), row["verdict"]) in (("bad", "good"), ("good", "unreliable"))
    ]
    return "\n".join([*lines, "", *wrong])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*MADE_UP, *(n for n in CASES if n != "lotka_volterra")]
    parser.add_argument("--only", nargs="+", default=names, choices=[*MADE_UP, *CASES], metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=range(5), metavar="SEED")
    parser.add_argument("--data", help="the folder of the reference data")
    parser.add_argument("--table", action="store_true", help="only print what was measured before")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if not options.table:
        for name in options.only:
            for seed in options.seeds:
                start = time.perf_counter()
                results[f"{name}: {seed}"] = study(name, seed, options.data)
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")
                rows, seconds = results[f"{name}: {seed}"], time.perf_counter() - start
                print(f"{name}, seed {seed}: {len(rows)} looks, {seconds:.0f} s; at the end {rows[-1]}", flush=True)
            jax.clear_caches()
    print(table(results))


if __name__ == "__main__":
    main()

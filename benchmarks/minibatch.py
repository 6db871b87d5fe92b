"""Logistic regression with many rows: seconds, memory and errors of `fit_posterior`, of NumPyro's SVI and PyMC's ADVI.

The reference is the Gaussian at the mode of all rows, with the mean corrected to the next order of Laplace's expansion.
Each fit runs in a process of its own, so that its peak memory can be measured. NumPyro and PyMC get the time that
`fit_posterior` took, compilation included, and the same minibatches.
"""

import argparse
import json
import math
import multiprocessing
import resource
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoMultivariateNormal, AutoNormal

import pushforward as pf
from benchmarks.machine import load, machine

RESULTS = Path(__file__).parent / "results" / "minibatch.json"
BATCH = 1000
# Adam's rate, in NumPyro the first of a cosine decay. With 3e-3 the means do not arrive in the time.
RATE = 2e-2
PRIOR_SD = 1.0
# The standard deviations that guides begin with, where that can be chosen.
INIT_SCALE = 1e-3
ROWS_AT_A_TIME = 50_000
GUIDES = {"NumPyro's AutoNormal": AutoNormal, "NumPyro's AutoMultivariateNormal": AutoMultivariateNormal}
METHODS = {"PyMC's ADVI": "advi", "PyMC's full-rank ADVI": "fullrank_advi"}
# PyMC has an array of the losses of all steps that it may take.
MAX_STEPS = 1_000_000
# NumPyro's steps are compiled together, this many, and are timed over this many blocks.
STEPS_AT_ONCE, TIMED_BLOCKS = 100, 6


def simulate(rows: int, columns: int, path: str | None, dtype: str) -> np.ndarray:
    """Correlated columns, an intercept, and outcomes; memory-mapped if there is a path."""
    generator = np.random.default_rng(0)
    weights = 0.3 * generator.normal(size=columns)
    mixing = np.eye(columns) + 0.3 * generator.normal(size=(columns, columns)) / columns**0.5
    shape = (rows, columns + 1)
    values = np.zeros(shape, dtype) if path is None else np.lib.format.open_memmap(path, "w+", np.dtype(dtype), shape)
    for start in range(0, rows, ROWS_AT_A_TIME):
        x = generator.normal(size=(min(ROWS_AT_A_TIME, rows - start), columns)) @ mixing
        x[:, 0] = 1.0
        y = generator.random(len(x)) < 1 / (1 + np.exp(-x @ weights))
        values[start : start + len(x)] = np.column_stack([x, y])
    return values


def log_prior(weights):
    return jnp.sum(dist.Normal(0.0, PRIOR_SD).log_prob(weights))


def log_likelihood(weights, rows):
    logits = rows[:, :-1] @ weights
    return rows[:, -1] * logits - jax.nn.softplus(logits)


def model(values):
    columns = values.shape[1] - 1
    weights = numpyro.sample("weights", dist.Normal(0.0, PRIOR_SD).expand([columns]).to_event(1))
    with numpyro.plate("rows", len(values), subsample_size=BATCH) as indices:
        rows = values[indices]
        numpyro.sample("y", dist.Bernoulli(logits=rows[:, :-1] @ weights), obs=rows[:, -1])


def reference(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard deviations by Newton's method in NumPy, and the next order of Laplace's expansion."""
    columns = values.shape[1] - 1
    weights = np.zeros(columns)
    parts = range(0, len(values), ROWS_AT_A_TIME)
    for _ in range(12):
        gradient, hessian = -weights / PRIOR_SD**2, np.eye(columns) / PRIOR_SD**2
        for start in parts:
            part = np.asarray(values[start : start + ROWS_AT_A_TIME], float)
            x, y = part[:, :-1], part[:, -1]
            p = 1 / (1 + np.exp(-x @ weights))
            gradient += x.T @ (y - p)
            hessian += x.T @ (x * (p * (1 - p))[:, None])
        step = np.linalg.solve(hessian, gradient)
        weights += step
        if gradient @ step < 1e-16:
            break
    covariance = np.linalg.inv(hessian)
    # The derivative of log det of the Hessian is the sum over rows of p (1 - p) (1 - 2 p) x S x times x.
    slope = np.zeros(columns)
    for start in parts:
        x = np.asarray(values[start : start + ROWS_AT_A_TIME], float)[:, :-1]
        p = 1 / (1 + np.exp(-x @ weights))
        slope += x.T @ (p * (1 - p) * (1 - 2 * p) * np.einsum("ij,jk,ik->i", x, covariance, x))
    return weights - 0.5 * covariance @ slope, np.sqrt(np.diag(covariance))


def errors(draws: np.ndarray, exact: tuple[np.ndarray, np.ndarray]) -> dict[str, float]:
    """The largest errors of a mean, and of a standard deviation, in standard deviations."""
    means, sds = exact
    return {
        "mean error": float(np.max(np.abs(draws.mean(0) - means) / sds)),
        "sd error": float(np.max(np.abs(draws.std(0) / sds - 1))),
    }


def fit_ours(values: np.ndarray, seed: int) -> tuple[np.ndarray, dict[str, Any]]:
    target = pf.Target(
        log_prior,
        jnp.zeros(values.shape[1] - 1),
        log_likelihood=log_likelihood,
        data=values,
        batch_size=BATCH,
    )
    posterior = pf.fit_posterior(target, key=jr.key(seed))
    found = posterior.diagnostics
    facts = {"verdict": found.verdict, "gap": found.gap, "draws of the verdict": found.num_draws}
    return np.asarray(posterior.sample(jr.key(seed + 1), 100_000)), facts


def fit_svi(kind: str, values: np.ndarray, seed: int, seconds: float) -> tuple[np.ndarray, dict[str, Any]]:
    """A guide of NumPyro by Adam with a cosine decay, until the time is up; the time of a step is measured before."""
    values = jnp.asarray(values)

    def run(steps, limit):
        guide = GUIDES[kind](model, init_scale=INIT_SCALE)
        svi = SVI(model, guide, optax.adam(optax.cosine_decay_schedule(RATE, steps)), Trace_ELBO(num_particles=8))

        @jax.jit
        def block(state, values):
            return jax.lax.scan(lambda state, _: (svi.update(state, values)[0], None), state, None, STEPS_AT_ONCE)[0]

        began = time.perf_counter()
        state, ends = svi.init(jr.key(seed), values), []
        while not ends or (ends[-1] < limit and STEPS_AT_ONCE * len(ends) < steps):
            state = jax.block_until_ready(block(state, values))
            ends.append(time.perf_counter() - began)
        return guide, svi.get_params(state), ends

    # The first block compiles.
    ends = run(TIMED_BLOCKS * STEPS_AT_ONCE, math.inf)[2]
    per_block = (ends[-1] - ends[0]) / (TIMED_BLOCKS - 1)
    guide, params, ends = run(STEPS_AT_ONCE * (1 + max(0, int((seconds - ends[0]) / per_block))), seconds)
    draws = guide.sample_posterior(jr.key(seed + 1), params, sample_shape=(100_000,))["weights"]
    return np.asarray(draws), {"steps": STEPS_AT_ONCE * len(ends), "seconds": ends[-1]}


def fit_advi(kind: str, values: np.ndarray, seed: int, seconds: float) -> tuple[np.ndarray, dict[str, Any]]:
    """ADVI of PyMC by Adam with its minibatches, until the time is up."""
    import pymc as pm

    began = time.perf_counter()
    # Of parts of an array that are not contiguous, each step takes 200 times as long.
    x, y = np.ascontiguousarray(values[:, :-1]), np.ascontiguousarray(values[:, -1])
    start = {} if METHODS[kind] == "fullrank_advi" else {"start_sigma": {"weights": np.full(x.shape[1], INIT_SCALE)}}
    steps = 0
    with pm.Model():
        x, y = pm.Minibatch(x, y, batch_size=BATCH)
        weights = pm.Normal("weights", 0.0, PRIOR_SD, shape=values.shape[1] - 1)
        pm.Bernoulli("y", logit_p=x @ weights, observed=y, total_size=len(values))

        def end(approximation, losses, step):
            nonlocal steps
            steps = step
            if time.perf_counter() - began > seconds:
                raise StopIteration

        try:
            found = pm.fit(
                MAX_STEPS,
                method=METHODS[kind],
                obj_optimizer=pm.adam(learning_rate=RATE),
                callbacks=[end],
                random_seed=seed,
                progressbar=False,
                **start,
            )
        except FloatingPointError:
            return np.full((1, values.shape[1] - 1), np.nan), {"steps": steps, "ended by": "NaN"}
        draws = found.sample(20_000, random_seed=seed, return_inferencedata=False)["weights"]
    return np.asarray(draws), {"steps": steps}


def measured(kind: str, options: dict[str, Any], exact: Any, seconds: float, results: Any) -> None:
    """One fit in its own process: seconds with compilation, the increase of peak memory, and errors."""
    jax.config.update("jax_enable_x64", True)
    values = open_or_simulate(options)
    began = time.perf_counter()
    if kind == "pushforward":
        draws, facts = fit_ours(values, options["seed"])
    else:
        fit = fit_svi if kind in GUIDES else fit_advi
        draws, facts = fit(kind, values, options["seed"], seconds)
    facts = {
        "seconds": time.perf_counter() - began,
        **facts,
        "peak memory of the process (GB)": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9,
    }
    results.put(errors(draws, exact) | facts)


def open_or_simulate(options: dict[str, Any]) -> np.ndarray:
    if options["file"] is not None:
        return np.load(options["file"], mmap_mode="r")
    return simulate(options["rows"], options["columns"], None, options["dtype"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--columns", type=int, default=20)
    parser.add_argument("--full", action="store_true", help="a million rows of 50 columns")
    parser.add_argument("--file", help="write the rows to this .npy file, and read them from it in parts")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--float32", action="store_true", help="the data in single precision; the fits are in double")
    parser.add_argument("--alone", action="store_true", help="without NumPyro and PyMC")
    args = parser.parse_args()
    rows, columns = (1_000_000, 50) if args.full else (args.rows, args.columns)
    options = {"rows": rows, "columns": columns, "file": args.file, "seed": args.seed}
    options["dtype"] = "float32" if args.float32 else "float64"
    values = simulate(rows, columns, args.file, options["dtype"])
    exact = reference(values)
    del values
    found: dict[str, Any] = {}
    context = multiprocessing.get_context("spawn")
    for kind in ("pushforward",) if args.alone else ("pushforward", *GUIDES, *METHODS):
        results = context.Queue()
        seconds = found.get("pushforward", {}).get("seconds", 0.0)
        process = context.Process(target=measured, args=(kind, options, exact, seconds, results))
        process.start()
        found[kind] = results.get()
        process.join()
        print(kind, json.dumps(found[kind], indent=1), flush=True)
    # Other sizes stay.
    kept = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    options["file"] = args.file is not None
    name = f"{rows} x {columns}" + ", from a file" * options["file"]
    kept[name] = {"machine": machine(), "load": load(), "options": options, "results": found}
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()

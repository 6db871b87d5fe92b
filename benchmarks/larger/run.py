"""Fits of larger posteriors, with NUTS and a Gaussian guide of NumPyro beside them.

    make larger                                        # all, seed 0; writes benchmarks/results/larger.json
    make larger ARGS="--only lgcp sv_500 --seeds 0 1"  # some; the file keeps the others
    make larger ARGS="--table"                         # print the table of the file

The option --data or the variable PUSHFORWARD_DATA names the folder of the data, by default ../shared/data. Every fit
runs in its own process, in float64, so its seconds include compilation; CPU s: processor time of all cores, which
depends less on other load. NUTS has 4 chains of 1,000 draws after 1,000 of warm-up; "to 1,000" is its processor time
divided by its smallest effective sample size, times 1,000. The guide trains for the seconds that `fit_posterior` took.

KL: the log evidence minus the ELBO, in nats; the log evidence is the published one or, in brackets, the fit's own.
dmean, dSD: the largest error of a mean and the largest relative error of a standard deviation, in posterior standard
deviations, of 10,000 draws by `resample` if the verdict is "reweight" and by `sample` otherwise, against NUTS; the
errors of NUTS itself are about 1 / sqrt(smallest effective sample size).
"""

import json
import sys
from pathlib import Path

import jax
import numpy as np

from benchmarks.larger.models import cases
from benchmarks.posteriors.accuracy import columns
from benchmarks.posteriors.apart import measure_apart, parse_options
from benchmarks.posteriors.data import find_data
from benchmarks.posteriors.methods import Outcome, pushforward
from benchmarks.posteriors.peers import PEERS
from benchmarks.posteriors.registry import Problem

METHODS = {"NUTS": PEERS["NUTS"], "pushforward": pushforward, "guide": PEERS["AutoMultivariateNormal"]}
RESULTS = Path(__file__).parents[1] / "results" / "larger.json"
HEADER = (
    "posterior", "seed", "NUTS CPU s", "smallest ESS", "to 1,000 CPU s", "CPU s", "seconds", "gradients",
    "ELBO", "log Z", "KL", "ESS", "verdict", "dmean", "dSD", "guide's ELBO",
)  # fmt: skip


def measure(name: str, method: str, seed: int, folder: Path, allowance: float) -> dict:
    """One fit, in this process."""
    jax.config.update("jax_enable_x64", True)
    case = cases()[name]
    problem = Problem(case.model, case.data(folder), {}, {}, case.log_evidence, None)
    outcome = METHODS[method](problem, seed, allowance)
    return {"elbo": outcome.elbo, "seconds": outcome.seconds, **outcome.facts} | moments(outcome)


def moments(outcome: Outcome) -> dict[str, list[float]]:
    """Means and standard deviations of all scalars."""
    which = "resample" if outcome.facts.get("verdict") == "reweight" else "sample"
    draws = outcome.draws[which]
    if not draws:
        return {}
    values = columns(draws, sorted(draws))
    return {"mean": np.round(values.mean(0), 5).tolist(), "sd": np.round(values.std(0), 5).tolist()}


def errors(found: dict, reference: dict) -> tuple[float, float]:
    """The largest errors of means and of standard deviations."""
    mean, sd = (np.asarray(found[n]) - np.asarray(reference[n]) for n in ("mean", "sd"))
    scale = np.asarray(reference["sd"])
    return float(np.abs(mean / scale).max()), float(np.abs(sd / scale).max())


def table(results: dict) -> str:
    lines = [f"| {' | '.join(HEADER)} |", "|---" * len(HEADER) + "|"]
    for key, found in results.items():
        name, method, seed = key.split(": ")
        if method == "pushforward" and "error" not in found:
            peers = (results.get(f"{name}: {m}: {seed}", {}) for m in ("NUTS", "guide"))
            lines.append(f"| {name} | {seed} | {' | '.join(cells(found, *peers, cases()[name].log_evidence))} |")
    return "\n".join(lines)


def cells(found: dict, nuts: dict, guide: dict, log_evidence: float | None) -> list[str]:
    """The line of a fit."""
    sampled = [""] * 3
    if "seconds" in nuts:
        size, spent = nuts["smallest_ess"], nuts["processor_seconds"]
        sampled = [f"{spent:.0f}", f"{size:.0f}", f"{1000 * spent / size:.0f}"]
    kl = f"({found['own_gap']:.3f})" if log_evidence is None else f"{log_evidence - found['elbo']:.3f}"
    wrong = [f"{error:.3f}" for error in errors(found, nuts)] if "mean" in nuts else ["", ""]
    return [
        *sampled,
        f"{found['processor_seconds']:.0f}",
        f"{found['seconds']:.0f}",
        f"{found['evaluations']:,}",
        f"{found['elbo']:.3f}",
        f"{found['log_evidence']:.3f}",
        kl,
        f"{found['ess_fraction']:.2f}",
        found["verdict"],
        *wrong,
        f"{guide['elbo']:.3f}" if guide.get("elbo") is not None else "",
    ]


def main() -> None:
    options = parse_options(__doc__, [*cases()], [*METHODS], [*METHODS], [0])
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if not options.table:
        try:
            folder = find_data(options.data)
        except FileNotFoundError as error:
            sys.exit(str(error))
        jobs = [(n, m, s) for n in options.only for s in options.seeds for m in METHODS if m in options.methods]
        if options.here is not None:
            print(json.dumps(measure(*jobs[0], folder, options.here)))
            return
        for name, method, seed in jobs:
            allowance = results.get(f"{name}: pushforward: {seed}", {}).get("seconds", 0.0)
            found = measure_apart("benchmarks.larger.run", name, method, seed, folder, allowance)
            shown = {k: v for k, v in found.items() if k not in ("mean", "sd")}
            print(f"{name}: {method}: {seed}: {shown}", flush=True)
            results[f"{name}: {method}: {seed}"] = found
            RESULTS.write_text(json.dumps(results) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()

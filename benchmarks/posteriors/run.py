"""Fits of published posteriors, compared with their reference draws and log evidence.

    make posteriors                                     # all, seeds 0 to 2; writes benchmarks/results/posteriors.json
    make posteriors ARGS="--only arK blr --seeds 0"     # some; the file keeps the others
    make posteriors ARGS="--table"                      # print the table of the file

The option --data or the variable PUSHFORWARD_DATA names the folder of the data, by default ../shared/data. Every fit
runs in its own process, in float64, so its seconds include compilation. The table has one line for each posterior and
method: the worst figure of all seeds, and the median of seconds and evaluations.

KL: reference log evidence minus the ELBO, which is KL(q || p) in nats. dmean, dSD: the largest error of a marginal mean
and the largest relative error of a standard deviation, in posterior standard deviations. W1: the largest 1-Wasserstein
distance of a marginal, in the same unit. Each compares 10,000 draws by `sample` and by `resample` with 10,000 reference
draws; the floor is W1 between the two halves of the reference draws. own KL: the fit's own estimate. seconds: the
wall-clock time with compilation; CPU s: processor time of all cores, which depends less on other load.

Peers (--methods) train for the seconds that `fit_posterior` took for the same posterior and seed, so measure it before
them or together with them.
"""

import importlib.util
import json
import sys
from pathlib import Path

import jax
import numpy as np

from benchmarks.posteriors.accuracy import columns, compare, floor
from benchmarks.posteriors.apart import measure_apart, parse_options
from benchmarks.posteriors.data import find_data
from benchmarks.posteriors.methods import pushforward
from benchmarks.posteriors.peers import PEERS
from benchmarks.posteriors.registry import CASES, load

METHODS = {"pushforward": pushforward} | PEERS
RESULTS = Path(__file__).parents[1] / "results" / "posteriors.json"
HEADER = (
    "posterior", "method", "KL", "own KL", "dmean", "dSD", "W1", "dmean re", "dSD re", "W1 re", "floor",
    "ESS", "k-hat", "verdict", "seconds", "CPU s", "gradients",
)  # fmt: skip


def measure(name: str, method: str, seed: int, folder: Path, allowance: float) -> dict:
    """One fit, in this process."""
    jax.config.update("jax_enable_x64", True)
    problem = load(name, folder)
    outcome = METHODS[method](problem, seed, allowance)
    names = list(problem.draws)
    reference = columns(problem.draws, names)
    found = {"elbo": outcome.elbo, "seconds": outcome.seconds, **outcome.facts}
    known = outcome.elbo is not None and problem.log_evidence is not None
    found["kl"] = problem.log_evidence - outcome.elbo if known else None
    found["reference_se"] = problem.log_evidence_se
    for which, draws in outcome.draws.items():
        found[which] = compare(columns(draws, names), reference)
    return found | {"floor": floor(reference)}


def table(results: dict) -> str:
    lines = [f"| {' | '.join(HEADER)} |", "|---" * len(HEADER) + "|"]
    for name in CASES:
        for method in METHODS:
            found = [r for key, r in results.items() if key.startswith(f"{name}: {method}: ")]
            if found:
                lines.append(f"| {name} | {method} | {' | '.join(cells(found))} |")
    return "\n".join(lines)


def cells(found: list[dict]) -> list[str]:
    """The line of a posterior and a method, of all seeds."""
    good = [f for f in found if "error" not in f]
    if not good:
        return [found[0]["error"][:60], *[""] * (len(HEADER) - 3)]

    def values(*path):
        for f in good:
            for key in path:
                f = (f or {}).get(key)
            if f is not None:
                yield f

    def worst(*path, form="{:.3f}", of=max):
        return form.format(of(values(*path))) if any(True for _ in values(*path)) else ""

    def median(key, form):
        return form.format(np.median([*values(key)])) if any(True for _ in values(key)) else ""

    errors = [worst(which, what) for which in ("sample", "resample") for what in ("mean", "sd", "w1")]
    verdicts = ", ".join(dict.fromkeys(values("verdict")))
    return [
        worst("kl", form="{:.4f}"),
        worst("own_gap", form="{:.4f}"),
        *errors,
        worst("floor", "w1"),
        worst("ess_fraction", of=min),
        worst("khat", form="{:.2f}"),
        verdicts,
        median("seconds", "{:.0f}"),
        median("processor_seconds", "{:.0f}"),
        median("evaluations", "{:,.0f}"),
    ]


def main() -> None:
    options = parse_options(__doc__, [*CASES], [*METHODS], ["pushforward"], [0, 1, 2])
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if not options.table:
        try:
            folder = find_data(options.data)
        except FileNotFoundError as error:
            sys.exit(str(error))
        methods = [m for m in options.methods if m != "FlowJAX" or importlib.util.find_spec("flowjax")]
        if methods != options.methods:
            print("FlowJAX is skipped, for it is not installed; the environment of `make bench` has it.")
        jobs = [(n, m, s) for n in options.only for m in methods for s in options.seeds]
        if options.here is not None:
            print(json.dumps(measure(*jobs[0], folder, options.here)))
            return
        for name, method, seed in jobs:
            ours = results.get(f"{name}: pushforward: {seed}", {})
            if method != "pushforward" and "seconds" not in ours:
                print(f"{name}: {method}: {seed}: skipped, for pushforward was not measured before it")
                continue
            found = measure_apart("benchmarks.posteriors.run", name, method, seed, folder, ours.get("seconds", 0.0))
            print(f"{name}: {method}: {seed}: {found}", flush=True)
            results[f"{name}: {method}: {seed}"] = found
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(table(results))


if __name__ == "__main__":
    main()

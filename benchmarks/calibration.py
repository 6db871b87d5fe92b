"""How often the verdict is right: fits stopped at many budgets, by the verdict of `fit_posterior` and by the truth.

    make calibration                                  # all; writes benchmarks/results/calibration.json (hours)
    make calibration ARGS="--only arK funnel"         # some; the file keeps the others
    make calibration ARGS="--table"                   # print the table of the file

Every fit is assessed before its training and after each chunk of it, as if its budget had ended there. The truth is
known from reference draws and evidences (the published posteriors of `make posteriors`) or exactly
(`exact_posteriors.py`: many modes, heavy tails, rounding, mass at the ends of a support). A fit is bad if KL(q || p) >
0.5 nats, or if the error of a mean exceeds 0.25 standard deviations. It is good if KL < 0.05, all errors of means are
below 0.1 standard deviations, and all errors of standard deviations below 10 %. Otherwise it is middling.

The verdict "reweight" is about draws that are resampled by their weights, and about the evidence, so these are compared
with the truth as well.
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
import jax.random as jr
import numpy as np
from jaxtyping import Array

import pushforward as pf
from benchmarks.exact_posteriors import EXACT
from benchmarks.posteriors.accuracy import columns, compare
from benchmarks.posteriors.data import find_data
from benchmarks.posteriors.registry import CASES, load
from pushforward.bijections import Triangular
from pushforward.flow import Flow
from pushforward.flows.stack import standard_normal
from pushforward.posterior.objective import NUM_SAMPLES
from pushforward.posterior.search.survey import survey
from pushforward.posterior.verdict.assessment import NUM_DRAWS, Whitened, assess_draws, weighted_draws
from pushforward.posterior.verdict.diagnostics import Diagnostics

RESULTS = Path(__file__).parent / "results" / "calibration.json"
MAX_LOOKS = 12
NUM_COMPARED = 20_000
VERDICTS = ("good", "reweight", "unreliable")
STATES = ("good", "middling", "bad")
# An error of the log evidence that is larger than this many standard errors, and than this, is wrong.
MAX_SE, MAX_EVIDENCE_ERROR = 4.0, 0.02


class Truth(NamedTuple):
    """What a fit is compared with: `log_evidence` is None where it is unknown; `view` gives draws as columns."""

    target: pf.Target
    reference: np.ndarray
    log_evidence: float | None
    view: Callable


def truth(name: str, data: str | None) -> Truth:
    if name in EXACT:
        known = EXACT[name]
        reference = np.asarray(known.sample(jr.key(123), 100_000))
        target = pf.Target(known.log_density, known.example, support=known.support)
        return Truth(target, reference, known.log_evidence, np.asarray)
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
    total = NUM_SAMPLES * len(posterior.history.losses)
    whole = Whitened(known.target, Triangular(known.target.dim))
    rows = []
    for evaluations, flow in (looks[i] for i in kept):
        weighed, log_weights = weighted_draws(whole, flow, keys[1], NUM_DRAWS)
        rows.append(facts(known, evaluations, flow, assess_draws(found, flow, weighed, log_weights, keys[2]), keys[2]))
    last = facts(known, total, posterior.flow, posterior.diagnostics, keys[2])
    return [*rows, last | corrected(known, posterior, keys[2])]


def facts(known: Truth, evaluations: int, flow: Flow, d: Diagnostics, key: Array) -> dict:
    """What the verdict says of a flow, and what is true."""
    draws = jax.vmap(known.target.constrain)(flow.sample(key, (NUM_COMPARED,)))
    errors = compare(known.view(jax.tree.map(np.asarray, draws)), known.reference)
    said = {n: getattr(d, n) for n in ("elbo", "log_evidence", "log_evidence_se", "khat", "ess_fraction", "verdict")}
    kl = None if known.log_evidence is None else known.log_evidence - d.elbo
    return {"evaluations": evaluations, "kl": kl, "reasons": d.reasons, **said, **errors}


def corrected(known: Truth, posterior: pf.Posterior, key: Array) -> dict:
    """The errors of resampled draws and of the log evidence."""
    draws = jax.tree.map(np.asarray, posterior.resample(key, NUM_COMPARED))
    errors = {f"corrected_{n}": v for n, v in compare(known.view(draws), known.reference).items()}
    if known.log_evidence is None:
        return errors
    return errors | {"evidence_error": posterior.diagnostics.log_evidence - known.log_evidence}


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
    return "\n".join([*lines, "", *wrong, "", *wrongly_corrected(results)])


def wrongly_corrected(results: dict) -> list[str]:
    """The finished fits called "reweight" whose resampled draws or log evidence are wrong, and their number."""
    ends = {key: rows[-1] for key, rows in results.items() if "corrected_mean" in rows[-1]}
    ends = {key: row for key, row in ends.items() if row["verdict"] == "reweight"}
    wrong = []
    for key, row in ends.items():
        error, said = row.get("evidence_error", 0.0), row["log_evidence_se"]
        if row["corrected_mean"] > 0.25 or abs(error) > max(MAX_SE * said, MAX_EVIDENCE_ERROR):
            means = f"mean off {row['corrected_mean']:.2f}, sd {row['corrected_sd']:.2f}"
            wrong.append(f"{key}: after resampling {means}; log evidence off by {error:.3f}, said ± {said:.3f}")
    return [f"{len(wrong)} of {len(ends)} finished fits called reweight are wrong after resampling:", *wrong]


def measured() -> dict:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [*EXACT, *(n for n in CASES if n != "lotka_volterra")]
    parser.add_argument("--only", nargs="+", default=names, choices=[*EXACT, *CASES], metavar="NAME")
    parser.add_argument("--seeds", nargs="+", type=int, default=range(5), metavar="SEED")
    parser.add_argument("--data", help="the folder of the reference data")
    parser.add_argument("--table", action="store_true", help="only print what was measured before")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    results = measured()
    if not options.table:
        for name in options.only:
            for seed in options.seeds:
                start = time.perf_counter()
                rows = study(name, seed, options.data)
                # Others may have written meanwhile.
                results = measured() | {f"{name}: {seed}": rows}
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")
                seconds = time.perf_counter() - start
                print(f"{name}, seed {seed}: {len(rows)} looks, {seconds:.0f} s; at the end {rows[-1]}", flush=True)
            jax.clear_caches()
    print(table(results))


if __name__ == "__main__":
    main()

"""Models of the galleries of NumPyro and PyMC, fitted with default settings and compared with NumPyro's NUTS.

    make gallery                                      # those without a result; writes benchmarks/results/gallery.json
    make gallery ARGS="--only eight_schools --again"  # some, measured again
    make gallery ARGS="--table"                       # print the table of the file

Every model has a process of its own, in float64. NUTS has 2 chains of 500 draws after 500 of warm-up. Means are
compared in posterior standard deviations, and standard deviations by their ratio, for every unconstrained coordinate,
with 10,000 draws by `resample` if the verdict is "reweight" and by `sample` otherwise. The bounds are 0.1 and 10 %, and
three standard errors of NUTS more. Where a fit exceeds them, NUTS runs again, four times as long and with smaller
steps, and only the second comparison counts.

- right: the verdict is "good" or "reweight", and all moments are within the bounds.
- wrong: the verdict is "good" or "reweight", and a moment is not.
- undecided: the same, but there is no reference: the chains of NUTS disagree (R-hat above 1.02) or have an effective
  sample size below 100, some of its steps diverge while its moments differ from those of the fit, or it fails or takes
  longer than the limit of CPU time.
- unreliable: that is the verdict.
- too slow: the fit takes longer than the limit of CPU time, which is 150 seconds for the fit and for each run of NUTS.
- refused: the library says why it does not take the model.
- failed: an error of another kind.

The file is written after each model, so that a command that was interrupted continues where it ended.
"""

import argparse
import collections
import json
import resource
import time
import traceback
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.random as jr
import numpy as np
from numpyro.diagnostics import effective_sample_size, split_gelman_rubin
from numpyro.infer import MCMC, NUTS

import pushforward as pf
from benchmarks.gallery.registry import examples
from benchmarks.posteriors.apart import run_apart

RESULTS = Path(__file__).parents[1] / "results" / "gallery.json"
OUTCOMES = ("right", "refused", "unreliable", "too slow", "undecided", "wrong", "failed")
LARGEST_MEAN, LARGEST_SD, LARGEST_RHAT, ERRORS = 0.1, 0.1, 1.02, 3.0
SMALLEST_ESS = 100
NUM_DRAWS, CPU_SECONDS, SECONDS = 10_000, 150, 1200


class Reference(NamedTuple):
    """Moments of all unconstrained coordinates, with their errors, by NUTS."""

    mean: np.ndarray
    sd: np.ndarray
    mean_error: np.ndarray
    sd_error: np.ndarray
    rhat: float
    divergent: int


def measure(name: str) -> dict[str, Any]:
    """The outcome of one example, in this process, which prints what it has before each stage."""
    jax.config.update("jax_enable_x64", True)
    built = examples()[name].build(np.random.default_rng(0))
    begin({"stage": "fit"})
    start = time.perf_counter()
    try:
        target = (
            pf.Target.from_numpyro(built[0], **built[1]) if isinstance(built, tuple) else pf.Target.from_pymc(built)
        )
        posterior = pf.fit_posterior(target, key=jr.key(0))
    except Exception as error:
        return {"outcome": kind_of_error(error), "reason": f"{type(error).__name__}: {error}"[:600]}
    seconds = time.perf_counter() - start
    found = posterior.diagnostics
    facts = {"dim": target.dim, "seconds": round(seconds, 1), "verdict": found.verdict, "reasons": found.reasons} | {
        n: float(getattr(found, n)) for n in ("elbo", "khat", "ess_fraction")
    }
    draw = posterior.resample if found.verdict == "reweight" else posterior.sample
    u = np.asarray(jax.vmap(target.unconstrain)(draw(jr.key(1), NUM_DRAWS)))
    compared = {}
    for lengths, options in (((500, 500), {}), ((1000, 2000), {"target_accept_prob": 0.98})):
        begin(facts | compared | {"stage": "NUTS"})
        start = time.perf_counter()
        try:
            reference = nuts(built, target, lengths, options)
        except Exception as error:
            compared = {"reason": f"NUTS: {type(error).__name__}: {error}"[:600]}
            continue
        compared = compare(u, reference) | {"NUTS seconds": round(time.perf_counter() - start, 1)}
        if found.verdict == "unreliable" or outcome(found.verdict, compared) == "right":
            break
    return {"outcome": outcome(found.verdict, compared)} | facts | compared


def begin(stage: dict[str, Any]) -> None:
    """Print what is known before a stage, and allow it the limit of CPU time."""
    print(json.dumps(stage), flush=True)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + CPU_SECONDS, hard))


def finished(found: dict[str, Any]) -> dict[str, Any]:
    """The result of a process, also of one that was ended in a stage."""
    stage, error = found.pop("stage", None), found.pop("error", None)
    if error is None:
        return found
    if stage == "NUTS":
        return {"outcome": outcome(found["verdict"], {}), "reason": f"NUTS: {error}"} | found
    slow = stage == "fit" and "limit of CPU time" in error
    return {"outcome": "too slow" if slow else "failed", "reason": error} | found


def kind_of_error(error: Exception) -> str:
    """Whether the library refused a model, or something inside it failed."""
    file = traceback.extract_tb(error.__traceback__)[-1].filename
    own = Path(file).is_relative_to(Path(pf.__file__).parent)
    return "refused" if own and isinstance(error, (ValueError, TypeError, ImportError)) else "failed"


def outcome(verdict: str, compared: dict[str, Any]) -> str:
    if verdict == "unreliable":
        return "unreliable"
    # Also if they are NaN.
    if not compared.get("rhat", np.inf) <= LARGEST_RHAT or not compared["smallest ESS"] >= SMALLEST_ESS:
        return "undecided"
    if compared["within"]:
        return "right"
    return "undecided" if compared["divergent"] else "wrong"


def nuts(built: Any, target: pf.Target, lengths: tuple[int, int], options: dict[str, Any]) -> Reference:
    """The moments by NumPyro's NUTS: of a NumPyro model itself, of a PyMC model by its log-density."""
    settings = {"num_warmup": lengths[0], "num_samples": lengths[1], "num_chains": 2, "progress_bar": False}
    if isinstance(built, tuple):
        chains = MCMC(NUTS(built[0], **options), chain_method="sequential", **settings)
        chains.run(jr.key(2), **built[1])
        draws = chains.get_samples(group_by_chain=True)
        u = jax.vmap(jax.vmap(target.unconstrain))(draws)
    else:
        start = target.start + 0.1 * jr.normal(jr.key(3), (2, target.dim))
        chains = MCMC(NUTS(potential_fn=lambda u: -target(u), **options), chain_method="sequential", **settings)
        chains.run(jr.key(2), init_params=start)
        u = chains.get_samples(group_by_chain=True)
    u = np.asarray(u)
    mean, sd = u.mean((0, 1)), u.std((0, 1))
    size = np.asarray(effective_sample_size(u))
    kurtosis = (((u - mean) / sd) ** 4).mean((0, 1))
    divergent = int(np.sum(chains.get_extra_fields().get("diverging", 0)))
    errors = (1 / np.sqrt(size), np.sqrt((kurtosis - 1) / (4 * size)))
    return Reference(mean, sd, *errors, float(np.max(split_gelman_rubin(u))), divergent)


def compare(u: np.ndarray, reference: Reference) -> dict[str, Any]:
    """The largest errors of moments, and whether all are within the bounds."""
    mean = np.abs(u.mean(0) - reference.mean) / reference.sd
    sd = np.abs(u.std(0) / reference.sd - 1)
    within = np.all(mean <= LARGEST_MEAN + ERRORS * reference.mean_error)
    within &= np.all(sd <= LARGEST_SD + ERRORS * reference.sd_error)
    return {
        "mean": round(float(mean.max()), 4),
        "sd": round(float(sd.max()), 4),
        "within": bool(within),
        "rhat": round(reference.rhat, 4),
        "smallest ESS": round(float(reference.mean_error.max() ** -2)),
        "divergent": reference.divergent,
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """The counts of the outcomes, and a line for each example."""
    counts = collections.Counter(found["outcome"] for found in results.values())
    lines = [f"{len(results)} models: " + ", ".join(f"{counts[o]} {o}" for o in OUTCOMES if counts[o])]
    lines += ["", "| model | example | parameters | verdict | error of a mean | of an SD | outcome |", "|---" * 7 + "|"]
    for name, entry in examples().items():
        if name in results:
            found = results[name]
            numbers = [f"{found[n]:.3f}" if n in found else "" for n in ("mean", "sd")]
            cells = [name, entry.title, str(found.get("dim", "")), found.get("verdict", ""), *numbers, found["outcome"]]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def read_results() -> dict[str, dict[str, Any]]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[*examples()], choices=[*examples()], metavar="NAME")
    parser.add_argument("--again", action="store_true", help="measure again what the file already contains")
    parser.add_argument("--table", action="store_true", help="only print what was measured before")
    parser.add_argument("--here", action="store_true", help="print one result as JSON, measured in this process")
    options = parser.parse_args()
    if options.here:
        print(json.dumps(measure(options.only[0])))
        return
    for name in () if options.table else options.only:
        if name not in read_results() or options.again:
            found = finished(run_apart("benchmarks.gallery.run", ["--only", name, "--here"], SECONDS))
            print(f"{name}: {found}", flush=True)
            # Read again, because several commands may write to the file.
            RESULTS.write_text(json.dumps(read_results() | {name: found}, indent=1) + "\n")
    print(table(read_results()))


if __name__ == "__main__":
    main()

"""The accuracy of `fit_density` with default settings, on toy densities of known entropy and on small tables.

    make density                                          # all; writes benchmarks/results/density.json
    make density ARGS="--only toys"                       # some; the file keeps the others
    make density ARGS="--only tables --splits 1"          # fewer splits of the tables
    make density ARGS="--table"                           # print what the file holds

    make density ARGS="--methods FlowJAX Zuko"            # peers, in the environment of `make bench`

Toys: 50,000 draws; the figure is KL(p || q), the negative log-likelihood of 200,000 fresh draws minus the entropy.
Tables: small data sets of the UCI repository, read from a folder outside the project (`--data`); without the folder
they are skipped. A split holds out a tenth of the rows; the figure is their mean log-likelihood in nats per row, in the
units of columns standardized by the training rows, with a full Gaussian and a mixture of Gaussians (full covariances;
the number of components by the Bayesian information criterion). Nothing is tuned for a data set. A third of the
test rows of white wine are copies of other rows; "loss of new rows" is the loss of those that are not copies.

Peers are spline flows of FlowJAX and Zuko. Each trains for the seconds that `fit_density` took for the same samples,
with its compilation, at each of two learning rates; the peer's own compilation is not counted, and the better learning
rate on test rows counts.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import equinox as eqx
import jax
import jax.random as jr
import numpy as np

import pushforward as pf
from densities import DENSITIES
from pushforward.density import baselines
from pushforward.density.data.splitting import hash_rows

RESULTS = Path(__file__).parent / "results" / "density.json"
DATA = Path(__file__).parents[2] / "shared" / "data"
NUM_SAMPLES = 50_000
NUM_TEST = 200_000
OURS = "fit_density"
METHODS = (OURS, "FlowJAX", "Zuko")
# The name in the archive, and the name of the list of columns to use, if the archive has one.
TABLES = {
    "white wine": ("whitewine", "rnade_cols_whitewine"),
    "parkinsons": ("parkinsons", "rnade_cols_parkinsons"),
    "power plant": ("power_plant", None),
    "protein": ("protein_tertiary_structure", None),
    "magic": ("magic", None),
}


class Fit(NamedTuple):
    log_prob: Callable[[np.ndarray], np.ndarray]
    seconds: float


def ours(x: np.ndarray, seed: int) -> Fit:
    """`fit_density` with default settings; its seconds include compilation."""
    start = time.perf_counter()
    with warnings.catch_warnings():
        # Many columns of the tables are rounded; they are used unchanged, as in the literature.
        warnings.filterwarnings("ignore", message=".*distinct values")
        density = pf.fit_density(x, key=jr.key(seed))
    log_prob = eqx.filter_jit(density.flow.log_prob)
    return Fit(lambda x: np.asarray(log_prob(x)), time.perf_counter() - start)


def theirs(method: str, x: np.ndarray, seed: int, allowance: float) -> Fit:
    """A peer, at each of its learning rates for the given number of seconds."""
    from density_peers import PEERS

    start = time.perf_counter()
    log_prob = PEERS[method](x, seed, allowance)
    return Fit(log_prob, time.perf_counter() - start)


class Problem(NamedTuple):
    """Training samples, test samples, the entropy to subtract from the test loss, and other figures."""

    x: np.ndarray
    test: np.ndarray
    entropy: float
    facts: dict[str, float]


def toy(name: str, seed: int) -> Problem:
    sampler, entropy = DENSITIES[name]
    data_key, test_key = jr.split(jr.key(seed))
    return Problem(np.asarray(sampler(data_key, NUM_SAMPLES)), np.asarray(sampler(test_key, NUM_TEST)), entropy, {})


def split_table(data: Path, name: str, split: int) -> Problem:
    key, columns = TABLES[name]
    with np.load(data / "tabular" / "uci_small.npz") as archive:
        x = archive[key] if columns is None else archive[key][:, archive[columns]]
    test, kept = np.split(np.random.default_rng(split).permutation(len(x)), [len(x) // 10])
    x = (x - x[kept].mean(0)) / x[kept].std(0)
    mixture, size = baselines.mixture(x[kept], x[test])
    gaussian = baselines.gaussian(x[kept], x[test])
    facts = {"gaussian": float(np.mean(gaussian)), "mixture": float(np.mean(mixture)), "components": size}
    return Problem(x[kept], x[test], 0.0, facts)


def measure(problem: Problem, method: str, seed: int, allowance: float) -> dict[str, float]:
    """The mean loss of test rows minus the entropy, and its standard error."""
    fit = ours(problem.x, seed) if method == OURS else theirs(method, problem.x, seed, allowance)
    parts = np.array_split(problem.test, max(1, len(problem.test) // 10_000))
    losses = -np.concatenate([np.asarray(fit.log_prob(part), float) for part in parts])
    found = {"loss": float(losses.mean() - problem.entropy), "se": float(losses.std() / len(losses) ** 0.5)}
    new = ~np.isin(hash_rows((problem.test,)), hash_rows((problem.x,)))
    if 0 < new.sum() < len(new):
        found |= {"loss of new rows": float(losses[new].mean()), "share of copies": float(1 - new.mean())}
    return found | {"seconds": fit.seconds}


def tables(results: dict) -> str:
    lines = [f"| toy | {' | '.join(f'{m} | seconds' for m in METHODS)} |", "|---" * (1 + 2 * len(METHODS)) + "|"]
    for name in DENSITIES:
        found = [results.get(f"toy: {name}: 0: {method}") for method in METHODS]
        if any(found):
            cells = [f"{f['loss']:.4f} | {f['seconds']:.0f}" if f else " | " for f in found]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", f"| table | splits | Gaussian | mixture | {' | '.join(METHODS)} | seconds |", "|---" * 8 + "|"]

    def fits(name, method):
        return [v for k, v in results.items() if k.startswith(f"table: {name}: ") and k.endswith(method)]

    def mean(found, loss):
        known = [-f[loss] for f in found if loss in f]
        return f"{np.mean(known):.3f}" if known else ""

    for name in TABLES:
        if own := fits(name, OURS):
            cells = [f"{np.mean([f[kind] for f in own]):.3f}" for kind in ("gaussian", "mixture")]
            for found in (fits(name, method) for method in METHODS):
                new = mean(found, "loss of new rows")
                cells.append(f"{mean(found, 'loss')} ({len(found)}{new and f', new rows {new}'})" if found else "")
            seconds = np.median([f["seconds"] for f in own])
            lines.append(f"| {name} | {len(own)} | {' | '.join(cells)} | {seconds:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["toys", "tables"], help="one part")
    parser.add_argument("--names", nargs="+", choices=[*DENSITIES, *TABLES], metavar="NAME", help="some toys or tables")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=[OURS], metavar="NAME")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the tables")
    parser.add_argument("--table", action="store_true", help="only print what was measured before")
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}

    def run(cell: str, seed: int, make: Callable[[], Problem]) -> None:
        problem = make()
        for method in options.methods:
            allowance = results.get(f"{cell}: {OURS}", {}).get("seconds", 0.0)
            found = problem.facts | measure(problem, method, seed, allowance)
            print(f"{cell}: {method}: {found}", flush=True)
            results[f"{cell}: {method}"] = found
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
            jax.clear_caches()

    def wanted(names):
        return [name for name in names if options.names is None or name in options.names]

    if not options.table and options.only != "tables":
        for name in wanted(DENSITIES):
            run(f"toy: {name}: 0", 0, partial(toy, name, 0))
    if not options.table and options.only != "toys":
        if not options.data.is_dir():
            print(f"the tables are left out: there is no folder {options.data}")
        else:
            # Split by split, so that what is cut short has something of each.
            for split in range(options.splits):
                for name in wanted(TABLES):
                    run(f"table: {name}: {split}", split, partial(split_table, options.data, name, split))
    print(tables(results))


if __name__ == "__main__":
    main()

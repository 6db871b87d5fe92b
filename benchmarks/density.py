"""How well `fit_density` does as it is called by default, on toys of known entropy and on small tables.

    make density                                          # all; writes benchmarks/results/density.json
    make density ARGS="--only toys"                       # some; the file keeps the others
    make density ARGS="--only tables --splits 1"          # fewer splits of the tables
    make density ARGS="--table"                           # print what the file holds

Toys: 50,000 draws; the figure is KL(p || q), the negative log-likelihood of 200,000 fresh draws less the entropy.
Tables: small sets of the UCI repository, read from a folder that is no part of the project (`--data`); without it they
are left out. A split holds a tenth of the rows out; the figure is their mean log-likelihood in nats a row, in the units
of columns standardised by the other rows, beside a full Gaussian and a mixture of Gaussians (full covariances, their
number chosen by the Bayesian information criterion). Nothing is tuned for a set.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import jax
import jax.random as jr
import numpy as np

import pushforward as pf
from densities import DENSITIES
from pushforward.density import baselines

RESULTS = Path(__file__).parent / "results" / "density.json"
DATA = Path(__file__).parents[2] / "shared" / "data"
NUM_SAMPLES = 50_000
NUM_TEST = 200_000
# Names in the archive, and the archive's name of the columns to use, if it names some.
TABLES = {
    "white wine": ("whitewine", "rnade_cols_whitewine"),
    "parkinsons": ("parkinsons", "rnade_cols_parkinsons"),
    "power plant": ("power_plant", None),
    "protein": ("protein_tertiary_structure", None),
    "magic": ("magic", None),
}


def measure_toy(name: str, seed: int) -> dict:
    sampler, entropy = DENSITIES[name]
    data_key, fit_key, test_key = jr.split(jr.key(seed), 3)
    x = np.asarray(sampler(data_key, NUM_SAMPLES))
    start = time.perf_counter()
    flow = pf.fit_density(x, key=fit_key, progress=False)
    seconds = time.perf_counter() - start
    log_prob = jax.jit(lambda key: flow.log_prob(sampler(key, NUM_TEST // 20)))
    losses = -np.concatenate([np.asarray(log_prob(key), float) for key in jr.split(test_key, 20)])
    return {"kl": float(losses.mean() - entropy), "se": float(losses.std() / len(losses) ** 0.5), "seconds": seconds}


def read(data: Path, name: str) -> np.ndarray:
    key, columns = TABLES[name]
    with np.load(data / "tabular" / "uci_small.npz") as archive:
        return archive[key] if columns is None else archive[key][:, archive[columns]]


def measure_table(x: np.ndarray, split: int) -> dict:
    rng = np.random.default_rng(split)
    rows = rng.permutation(len(x))
    held_out, kept = np.split(rows, [len(x) // 10])
    x = (x - x[kept].mean(0)) / x[kept].std(0)
    start = time.perf_counter()
    with warnings.catch_warnings():
        # Many of these columns are rounded; they are taken as they are, as in the literature.
        warnings.filterwarnings("ignore", message=".*distinct values")
        flow = pf.fit_density(x[kept], key=jr.key(split), progress=False)
    seconds = time.perf_counter() - start
    mixture, size = baselines.mixture(x[kept], x[held_out])
    return {
        "flow": float(np.mean(flow.log_prob(x[held_out]))),
        "gaussian": float(np.mean(baselines.gaussian(x[kept], x[held_out]))),
        "mixture": float(np.mean(mixture)),
        "components": size,
        "seconds": seconds,
    }


def tables(results: dict) -> str:
    lines = ["| toy | KL in nats | seconds |", "|---|---|---|"]
    for name in DENSITIES:
        if found := results.get(f"toy: {name}"):
            lines.append(f"| {name} | {found['kl']:.4f} ± {found['se']:.4f} | {found['seconds']:.0f} |")
    lines += ["", "| table | splits | flow | Gaussian | mixture | seconds |", "|---|---|---|---|---|---|"]
    for name in TABLES:
        found = [value for key, value in results.items() if key.startswith(f"table: {name}: ")]
        if found:
            cells = [f"{np.mean([f[kind] for f in found]):.3f}" for kind in ("flow", "gaussian", "mixture")]
            seconds = np.median([f["seconds"] for f in found])
            lines.append(f"| {name} | {len(found)} | {' | '.join(cells)} | {seconds:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["toys", "tables"], help="one part")
    parser.add_argument("--names", nargs="+", choices=[*DENSITIES, *TABLES], metavar="NAME", help="some toys or tables")
    parser.add_argument("--splits", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the toys")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the tables")
    parser.add_argument("--table", action="store_true", help="only print what was measured before")
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}

    def keep(cell: str, found: dict) -> None:
        print(f"{cell}: {found}", flush=True)
        results[cell] = found
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")

    def wanted(names):
        return [name for name in names if options.names is None or name in options.names]

    if not options.table and options.only != "tables":
        for name in wanted(DENSITIES):
            keep(f"toy: {name}", measure_toy(name, options.seed))
    if not options.table and options.only != "toys":
        if not options.data.is_dir():
            print(f"the tables are left out: there is no folder {options.data}")
        else:
            # Split by split, so that what is cut short has something of each.
            for split in range(options.splits):
                for name in wanted(TABLES):
                    keep(f"table: {name}: {split}", measure_table(read(options.data, name), split))
    print(tables(results))


if __name__ == "__main__":
    main()

"""Every bijection, measured: conformance in full, accuracy, cost in both directions, and how cost grows.

    make catalogue                                   # all; writes benchmarks/results/catalogue.json (an hour)
    make catalogue ARGS="--only accuracy cost"       # some parts; the file keeps the others
    make catalogue ARGS="--only conformance --names planar radial"

conformance: `pf.testing.check_bijection` with parameters moved by 0, 0.1, 1 and 3 x normal, in dimensions 1, 2, 5 and
    17, both precisions, with another seed for each bijection and dimension.
product: the same for every transformer with every conditioner, with a condition and without, in dimensions 2 and 5.
accuracy: the largest relative error of the round trip, and of the log-determinant against the automatic Jacobian in
    float64, over 256 normal points in 5 dimensions, parameters moved by 1 x normal.
cost: microseconds an event of forward with log-determinant and of the inverse, for the recipes' flows in 16 dimensions
    and batches of 1024, as ratios to a RealNVP's forward in the same turn.
slopes: the exponent of cost in the dimension (Sylvester), in dimension times units (triangular Sylvester), and in the
    number of layers (coupling), by least squares on a log-log scale.
"""

import argparse
import json
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np

import pushforward as pf
from pushforward import bijections as bj
from pushforward.testing import check_bijection, into, randomize

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from cases import CATALOGUE, PRODUCT, TOLERANCES  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "catalogue.json"
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "cost.png"
DIMS = {"conformance": (1, 2, 5, 17), "product": (2, 5)}
RECIPES = (
    *("linear", "planar", "radial", "sylvester", "nice", "realnvp", "nsf", "arnsf", "maf", "iaf", "naf", "unaf"),
    *("residual", "continuous", "gaussianization"),
)


def conformance(cases: dict[str, Callable], names: Iterable[str], dims: tuple[int, ...]) -> Iterator[dict[str, str]]:
    """Whether each passes: "passed", or the first thing that fails."""
    for number, name in enumerate(cases):
        if name not in names:
            continue
        found = {}
        for dim in dims:
            for x64 in (True, False):
                label = f"{name}, dim {dim}, {'float64' if x64 else 'float32'}"
                found[label] = one_conformance(name, cases[name], dim, x64, seed=1000 * number + dim)
                print(f"{label}: {found[label]}", flush=True)
        yield found
        jax.clear_caches()


def one_conformance(name: str, make: Callable, dim: int, x64: bool, seed: int) -> str:
    build_key, check_key = jr.split(jr.key(seed))
    with jax.enable_x64(x64):
        try:
            tolerance = TOLERANCES.get(name) if x64 else None
            bijection = make(dim, build_key)
            check_bijection(bijection, check_key, scales=(0.0, 0.1, 1.0, 3.0), num_points=8, tolerance=tolerance)
        except AssertionError as error:
            return str(error)
        except Exception:
            return traceback.format_exc(limit=-1)
    return "passed"


@eqx.filter_jit
def round_trip(bijection, u, condition):
    def one(u):
        x, log_det = bijection.forward_and_log_det(u, condition)
        return x, log_det, bijection.inverse_and_log_det(x, condition)[0]

    return jax.vmap(one)(u)


@eqx.filter_jit
def automatic_log_det(bijection, u, condition):
    return jax.vmap(lambda u: jnp.linalg.slogdet(jax.jacfwd(lambda u: bijection.forward(u, condition))(u))[1])(u)


def accuracy(names: list[str], dim: int = 5) -> Iterator[dict[str, dict[str, float]]]:
    for name in names:
        row = {}
        for x64 in (True, False):
            with jax.enable_x64(x64):
                bijection = randomize(CATALOGUE[name](dim, jr.key(0)), jr.key(1), 1.0)
                u = into(bijection.domain, jr.normal(jr.key(2), (256, dim)))
                condition = None if bijection.cond_shape is None else jr.normal(jr.key(3), bijection.cond_shape)
                _, log_det, back = round_trip(bijection, u, condition)
                kind = "float64" if x64 else "float32"
                row[f"round trip {kind}"] = float(jnp.max(jnp.abs(back - u) / (1 + jnp.abs(u))))
                if x64:
                    expected = automatic_log_det(bijection, u, condition)
                    row["log-det float64"] = float(jnp.max(jnp.abs(log_det - expected) / (1 + jnp.abs(expected))))
        print(name, row, flush=True)
        yield {name: row}
        jax.clear_caches()


def seconds(run: Callable, repetitions: int = 7) -> float:
    jax.block_until_ready(run())
    times = []
    for _ in range(repetitions):
        start = time.perf_counter()
        jax.block_until_ready(run())
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def batch_timers(bijection: bj.AbstractBijection, batch: int) -> tuple[Callable, Callable]:
    """Functions that run forward and inverse, with log-determinants, on a batch."""
    u = jr.normal(jr.key(1), (*bijection.shape, batch))
    arrays, static = eqx.partition(bijection, eqx.is_array)

    def method(name):
        run = jax.jit(lambda arrays, u: eqx.combine(arrays, static).batched(name, (u,)))
        return lambda at: run(arrays, at)

    forward, inverse = method("forward_and_log_det"), method("inverse_and_log_det")
    x = forward(u)[0]
    return lambda: forward(u), lambda: inverse(x)


def cost(dim: int = 16, batch: int = 1024) -> Iterator[dict[str, dict[str, float]]]:
    reference = batch_timers(randomize(pf.flows.realnvp(dim, key=jr.key(0)).bijection, jr.key(1), 0.3), batch)[0]
    for name in RECIPES:
        options = {"rtol": 1e-5, "atol": 1e-5} if name == "continuous" else {}
        flow = getattr(pf.flows, name)(dim, key=jr.key(0), **options)
        forward, inverse = batch_timers(randomize(flow.bijection, jr.key(1), 0.3), batch)
        unit = seconds(reference)
        found = {
            "forward": seconds(forward) / unit,
            "inverse": seconds(inverse) / unit,
            "parameters": bj.num_parameters(flow.bijection),
        }
        print(name, found, f"unit {unit / batch * 1e6:.2f} us an event", flush=True)
        yield {name: found}


def slopes(batch: int = 128) -> Iterator[dict[str, dict]]:
    """Cost against size; small sizes are left out, where overheads rule."""
    sizes = {
        "sylvester, d, 16 units": [(d, bj.Sylvester(d, 16, key=jr.key(0))) for d in (2048, 4096, 8192, 16384, 32768)],
        "triangular sylvester, d x m": [
            (d * m, bj.TriangularSylvester(d, m, key=jr.key(0)))
            for d, m in ((512, 16), (512, 64), (1024, 64), (2048, 64), (2048, 128))
        ],
        "coupling, layers": [
            (n, pf.flows.realnvp(16, num_layers=n, key=jr.key(0)).bijection) for n in (4, 8, 16, 32, 64)
        ],
    }
    for name, cases in sizes.items():
        x, times = zip(*((size, seconds(batch_timers(b, batch)[0], 15)) for size, b in cases), strict=True)
        slope = float(np.polyfit(np.log(x), np.log(times), 1)[0])
        found = {"sizes": list(x), "milliseconds": [1e3 * t for t in times], "slope": slope}
        print(name, found, flush=True)
        yield {name: found}


def picture(results: dict[str, dict]) -> None:
    """Cost against size on logarithmic scales, relative to the smallest, with a line of exponent 1."""
    _, axis = plt.subplots(figsize=(5, 4), layout="constrained")
    for name, row in results.items():
        sizes, times = (np.array(row[key]) / row[key][0] for key in ("sizes", "milliseconds"))
        axis.loglog(sizes, times, "o-", label=f"{name}: {row['slope']:.2f}")
    axis.loglog(sizes, sizes, "k:", label="linear")
    axis.set(xlabel="size, relative to the smallest", ylabel="time, likewise")
    axis.legend()
    plt.savefig(PICTURE, dpi=110)


def tables(results: dict) -> str:
    """Accuracy and cost, as documents show them."""
    lines = ["| bijection | round trip, float32 | round trip, float64 | log-det, float64 |", "|---|---|---|---|"]
    for name, row in results.get("accuracy", {}).items():
        kinds = ("round trip float32", "round trip float64", "log-det float64")
        lines.append(f"| {name} | {' | '.join(f'{row[kind]:.0e}' for kind in kinds)} |")
    lines += ["", "| recipe | forward | inverse | parameters |", "|---|---|---|---|"]
    for name, row in results.get("cost", {}).items():
        lines.append(f"| `{name}` | {row['forward']:.2g} | {row['inverse']:.2g} | {row['parameters']:,} |")
    lines += ["", "| cost against | exponent |", "|---|---|"]
    lines += [f"| {name} | {row['slope']:.2f} |" for name, row in results.get("slopes", {}).items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = ("accuracy", "cost", "slopes", "conformance", "product")
    parser.add_argument("--only", nargs="+", default=parts, choices=parts)
    parser.add_argument("--names", nargs="+", default=[*CATALOGUE], choices=[*CATALOGUE], metavar="NAME")
    parser.add_argument("--table", action="store_true", help="only print what was measured before")
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    runs = {
        "accuracy": lambda: accuracy(options.names),
        "cost": cost,
        "slopes": slopes,
        "conformance": lambda: conformance(CATALOGUE, options.names, DIMS["conformance"]),
        "product": lambda: conformance(PRODUCT, PRODUCT, DIMS["product"]),
    }
    for part in () if options.table else options.only:
        for found in runs[part]():
            results[part] = results.get(part, {}) | found
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        if part == "slopes":
            picture(results["slopes"])
    print(tables(results))
    for part in DIMS:
        found = results.get(part, {})
        failures = [f"{label}: {text}" for label, text in found.items() if text != "passed"]
        print(f"{part}: {len(found)} checks, {len(failures)} failures", *failures, sep="\n")


if __name__ == "__main__":
    main()

"""Every bijection, measured: accuracy, cost in both directions, and how cost grows.

    make catalogue                                   # all; writes benchmarks/results/catalogue.json
    make catalogue ARGS="--only accuracy cost"       # some parts; the file keeps the others
    make catalogue ARGS="--only accuracy --names planar radial"

accuracy: the largest relative error of the round trip, and of the log-determinant against the automatic Jacobian in
    float64, over 256 normal points in 5 dimensions, parameters perturbed by 1 x standard normal noise.
cost: microseconds an event of forward with log-determinant and of the inverse, for the recipes' flows in 16 dimensions
    and batches of 1024, as ratios to a RealNVP's forward in the same turn.
slopes: the exponent of cost in the dimension (Sylvester), in dimension times units (triangular Sylvester), and in the
    number of layers (coupling), by least squares on a log-log scale.
"""

import argparse
import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import matplotlib.pyplot as plt
import numpy as np

import pushforward as pf
from pushforward import bijections as bj
from pushforward.testing import map_to_domain, randomize

RESULTS = Path(__file__).parent / "results" / "catalogue.json"
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "cost.png"
RECIPES = (
    *("linear", "planar", "radial", "sylvester", "nice", "realnvp", "nsf", "arnsf", "maf", "iaf", "naf", "unaf"),
    *("residual", "continuous", "gaussianization"),
)
HIDDEN, COND_DIM = (8,), 2
SPLINES = ("LinearSpline", "QuadraticSpline", "CubicSpline", "RationalQuadraticSpline", "LinearRationalSpline")
SCALARS = {
    "affine": bj.Affine(0.5, 2.0),
    "shift": bj.Shift(0.5),
    "exp": bj.Exp(),
    "softplus": bj.Softplus(),
    "sigmoid": bj.Sigmoid(),
    "tanh": bj.Tanh(),
    "arctan": bj.Arctan(),
    "leaky_relu": bj.LeakyReLU(),
    "power": bj.Power(1.5),
    "yeo_johnson": bj.YeoJohnson(0.7),
    "sinh_arcsinh": bj.SinhArcsinh(0.5, 1.2),
    **{re.sub("(?<=.)(?=[A-Z])", "_", name).lower(): getattr(bj, name)(bins=4, bound=3.0) for name in SPLINES},
    "deep_sigmoidal": bj.DeepSigmoidal(num_units=4),
    "integral_network": bj.IntegralNetwork(num_units=4, nodes=16, bound=3.0),
    "monotone_network": bj.MonotoneNetwork(hidden=(4, 4)),
}


def mixture(dim: int) -> bj.AbstractBijection:
    """The Rosenblatt map of two Gaussians that overlap."""
    factors = np.stack([np.eye(dim) + 0.3 * np.tri(dim, k=-1), 0.5 * np.eye(dim)])
    return bj.GaussianMixtureRosenblatt(np.array([0.7, 0.3]), np.stack([np.zeros(dim), np.ones(dim)]), factors)


def amortized(bijection: bj.AbstractBijection) -> bj.Amortized:
    """Its parameters come from a small network of the condition."""
    network = bj.MLP(COND_DIM, bj.num_parameters(bijection), HIDDEN, key=jr.key(0))
    return bj.Amortized(bijection, network, (COND_DIM,))


def bijections(dim: int) -> dict[str, Callable[[], bj.AbstractBijection]]:
    """One small instance of every bijection, by name."""
    key, affine, spline = jr.key(0), SCALARS["affine"], SCALARS["rational_quadratic_spline"]
    conditional = {"hidden": HIDDEN, "cond_dim": COND_DIM, "key": key}
    reversal = bj.Permutation(np.arange(dim)[::-1])
    made = {
        **{f"elementwise {name}": lambda s=scalar: bj.Elementwise(s, dim) for name, scalar in SCALARS.items()},
        "permutation": lambda: bj.Permutation(np.asarray(jr.permutation(key, dim))),
        "triangular": lambda: bj.Triangular(dim),
        "coupling affine": lambda: bj.Coupling(affine, dim, **conditional),
        "coupling spline": lambda: bj.Coupling(spline, dim, **conditional),
        "coupling with transformed head": lambda: bj.Coupling(
            affine, dim, mask=np.arange(dim) % 2 == 1, transform_head=True, **conditional
        ),
        "masked affine": lambda: bj.MaskedAutoregressive(affine, dim, **conditional),
        "masked spline": lambda: bj.MaskedAutoregressive(spline, dim, hidden=HIDDEN, key=key),
        "masked with ordering": lambda: bj.MaskedAutoregressive(
            affine, dim, hidden=HIDDEN, ordering=jr.permutation(key, dim), key=key
        ),
        "masked with adjacency": lambda: bj.MaskedAutoregressive(
            affine, dim, hidden=(dim,), adjacency=np.eye(dim, k=1, dtype=bool), key=key
        ),
        "recurrent affine": lambda: bj.RecurrentAutoregressive(affine, dim, **conditional),
        "sylvester": lambda: bj.Sylvester(dim, min(dim, 3), key=key),
        "triangular sylvester": lambda: bj.TriangularSylvester(dim, min(dim, 3), key=key),
        "contractive": lambda: bj.Contractive(dim, HIDDEN, cond_dim=COND_DIM, key=key),
        "continuous": lambda: bj.Continuous(dim, HIDDEN, cond_dim=COND_DIM, key=key),
        "rosenblatt of a mixture": lambda: mixture(dim),
        **{
            of.__name__.lower(): lambda of=of: of(dim, key=key)
            for of in (bj.PLU, bj.QR, bj.Orthogonal, bj.Planar, bj.Radial)
        },
    }
    made |= {
        "amortized": lambda: amortized(bj.Triangular(dim)),
        "chain": lambda: bj.Chain([amortized(bj.Elementwise(affine, dim)), reversal, made["coupling affine"]()]),
        "scan": lambda: bj.Scan([bj.Chain([bj.Coupling(affine, dim, hidden=HIDDEN, key=key), reversal])] * 2),
        "invert": lambda: bj.Invert(made["masked affine"]()),
    }
    return made


NAMES = [*bijections(2)]


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
                bijection = randomize(bijections(dim)[name](), jr.key(1), 1.0)
                u = map_to_domain(bijection.domain, jr.normal(jr.key(2), (256, dim)))
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
        run = jax.jit(lambda arrays, u: getattr(eqx.combine(arrays, static), name)(u))
        return lambda at: run(arrays, at)

    forward, inverse = method("forward_batch"), method("inverse_batch")
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
    parts = ("accuracy", "cost", "slopes")
    parser.add_argument("--only", nargs="+", default=parts, choices=parts)
    parser.add_argument("--names", nargs="+", default=NAMES, choices=NAMES, metavar="NAME")
    parser.add_argument("--table", action="store_true", help="only print what was measured before")
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    runs = {
        "accuracy": lambda: accuracy(options.names),
        "cost": cost,
        "slopes": slopes,
    }
    for part in () if options.table else options.only:
        for found in runs[part]():
            results[part] = results.get(part, {}) | found
            RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        if part == "slopes":
            picture(results["slopes"])
    print(tables(results))


if __name__ == "__main__":
    main()

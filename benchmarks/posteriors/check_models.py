"""Check the benchmark's models against the reference draws by Stein's identity, without any sampler.

    make posteriors-check                                  # all models: a minute
    make posteriors-check ARGS="--only arK --data FOLDER"

For exact draws u of a density p, and for no other density, E[grad log p(u)] = 0 and
E[(u - mean) * grad log p(u)] = -1. A model passes if every such average lies within 5 standard errors of its value.
"""

import argparse
import sys

import jax
import jax.numpy as jnp
import numpy as np

import pushforward as pf
from benchmarks.posteriors.data import find_data
from benchmarks.posteriors.registry import CASES, Arrays, load

NUM_DRAWS = 10_000
# One gradient of a differential equation costs as much as a thousand others.
FEWER = {"lotka_volterra": 1_000}
STANDARD_ERRORS = 5


def stein_statistics(target: pf.Target, sites: Arrays, num_draws: int) -> np.ndarray:
    """The deviations of all averages in Stein's identity, in standard errors."""
    u, gradient = unconstrained_gradients(target, sites, num_draws)
    deviations = np.concatenate([gradient, (u - u.mean(0)) * gradient + 1], 1)
    return deviations.mean(0) / deviations.std(0) * len(u) ** 0.5


def unconstrained_gradients(target: pf.Target, sites: Arrays, num_draws: int) -> tuple[np.ndarray, np.ndarray]:
    """Reference draws as unconstrained vectors, spread evenly over the chains, and the gradients there."""
    total = len(next(iter(sites.values())))
    rows = np.linspace(0, total - 1, num_draws).astype(int)

    @jax.jit
    def both(draws):
        def one(draw):
            u = target.unconstrain(draw)
            return u, jax.grad(target)(u)

        return jax.lax.map(one, draws, batch_size=250)

    u, gradient = both({name: jnp.asarray(value[rows]) for name, value in sites.items()})
    return np.asarray(u), np.asarray(gradient)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[*CASES], choices=[*CASES], metavar="NAME")
    parser.add_argument("--data", help="the folder of the reference posteriors")
    options = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    folder, failed = find_data(options.data), []
    for name in options.only:
        problem = load(name, folder)
        target = pf.Target.from_numpyro(problem.model, **problem.data)
        largest = np.abs(stein_statistics(target, problem.sites, FEWER.get(name, NUM_DRAWS))).max()
        print(f"{name}: largest deviation {largest:.1f} standard errors", flush=True)
        if not largest < STANDARD_ERRORS:  # NaN fails too
            failed.append(name)
    if failed:
        sys.exit(f"not the density of the reference draws: {', '.join(failed)}")


if __name__ == "__main__":
    main()

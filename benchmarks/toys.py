"""Every family on two-dimensional targets with known answers, by both objectives.

    make toys                                        # all; writes benchmarks/results/toys.json (an hour on two cores)
    make toys ARGS="--families nsf --targets U1"     # some; the file keeps the others
    make toys ARGS="--table"                         # print the tables of the file

Reverse KL: the energies U1 to U4 of Rezende and Mohamed (2015), table 1, with the penalty relu(|z_i| - 6)^2 that makes
them proper. The figure is KL(q || p) in nats by quadrature: the trapezoid rule in the coordinates of the base, where
E_q[log q - log p] has a smooth, Gaussian weight; log Z is by quadrature too.

Forward KL: draws of toy densities, new ones in every step. The figure is KL(p || q) in nats: the mean of -log q over
fresh draws minus the entropy; the file has its standard error.

All families train with the same batches and schedules, weak and slow ones for fewer steps (the file has the numbers);
nothing is tuned for a target. Reverse KL begins tempered, p^beta with beta rising to 1 in small steps (as Rezende and
Mohamed do), because flows miss modes otherwise. It continues with the total gradient, which is more robust far from the
target, and ends with the path gradient, whose noise vanishes near the target. For reverse KL, splines have few bins and
no affine maps between them: finer splines have rougher log-densities and lose modes more easily. On samples they have
many bins. Training by reverse KL has two starts; the one with the better ELBO counts.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

import pushforward as pf
from densities import DENSITIES
from pushforward.bijections import Chain, Triangular
from pushforward.training.objectives import AbstractObjective

RESULTS = Path(__file__).parent / "results" / "toys.json"
DRAWS, ROWS = 1024, 256  # per step, by reverse and by forward KL
NUM_TEMPERATURES = 16
TEMPERED_SHARE = 0.6
# The energies lie in [-6, 6]^2, and flows begin half as wide: from a narrower start they lose modes.
FIRST_SCALE = {"sampling": 3.0, "density": 1.0}
RATE = 3e-3
NUM_TEST = 200_000


def wave(z):
    return jnp.sin(2 * jnp.pi * z[0] / 4)


def penalty(z):
    return jnp.sum(jax.nn.relu(jnp.abs(z) - 6) ** 2)


def u1(z):
    ring = 0.5 * ((jnp.linalg.norm(z) - 2) / 0.4) ** 2
    return -ring + jnp.logaddexp(-0.5 * ((z[0] - 2) / 0.6) ** 2, -0.5 * ((z[0] + 2) / 0.6) ** 2) - penalty(z)


def u2(z):
    return -0.5 * ((z[1] - wave(z)) / 0.4) ** 2 - penalty(z)


def u3(z):
    bump = 3 * jnp.exp(-0.5 * ((z[0] - 1) / 0.6) ** 2)
    return two_waves(z, 0.35, bump, 0.35)


def u4(z):
    return two_waves(z, 0.4, 3 * jax.nn.sigmoid((z[0] - 1) / 0.3), 0.35)


def two_waves(z, width, shift, other_width):
    first = -0.5 * ((z[1] - wave(z)) / width) ** 2
    return jnp.logaddexp(first, -0.5 * ((z[1] - wave(z) + shift) / other_width) ** 2) - penalty(z)


ENERGIES = {"U1": u1, "U2": u2, "U3": u3, "U4": u4}


class Family(NamedTuple):
    """A recipe, its options for a density and for samples, its numbers of steps, and its learning rate on samples."""

    recipe: str
    on_density: dict[str, Any]
    on_samples: dict[str, Any]
    steps: int = 8_000
    rate: float = RATE


def same(recipe: str, steps: int = 8_000, **options: Any) -> Family:
    return Family(recipe, options, options, steps)


# Each family has its usual depth in two dimensions, and fine splines a smaller learning rate.
FAMILIES = {
    "nsf": Family("nsf", {"num_layers": 12, "affine": False}, {"num_layers": 8, "bins": 32}, 16_000, 1e-3),
    "arnsf": Family("arnsf", {"num_layers": 5, "affine": False}, {"num_layers": 3, "bins": 32}, 16_000, 1e-3),
    "naf": same("naf", 16_000, num_units=32),
    "unaf": same("unaf", num_layers=3, num_units=16),
    "realnvp": same("realnvp", 16_000, num_layers=12),
    "iaf / maf": Family("iaf", {"num_layers": 8}, {"num_layers": 8}, 16_000),
    "continuous": same("continuous", 6_000, rtol=1e-4, atol=1e-4),
    "gaussianization": same("gaussianization", num_layers=12),
    "residual": same("residual", 4_000, num_layers=16, hidden=(32, 32), lipschitz=0.97),
    "nice": same("nice", num_layers=12),
    "sylvester": same("sylvester", num_layers=32),
    "planar": same("planar", num_layers=32),
    "radial": same("radial", num_layers=32),
    "linear": same("linear", 2_000),
}


def build(family: str, side: str, key: PRNGKeyArray) -> pf.Flow:
    name, on_density, on_samples, *_ = FAMILIES[family]
    options = {"sampling": on_density, "density": on_samples}[side]
    if family == "iaf / maf":
        name = {"sampling": "iaf", "density": "maf"}[side]
    elif name in ("planar", "radial", "sylvester", "arnsf", "naf", "unaf", "residual"):
        options = options | {"fast": side}
    flow = getattr(pf.flows, name)(2, key=key, **options)
    # An affine map next to the data models location and scale, as whitening does in practice.
    return pf.Flow(flow.base, Chain([flow.bijection, Triangular(2, matrix=FIRST_SCALE[side] * jnp.eye(2))]))


class FreshSamples(AbstractObjective):
    """The negative log-likelihood of samples that are drawn again for each step."""

    sampler: Callable = eqx.field(static=True)

    def loss(self, flow, batch, key, step):
        return -jnp.mean(flow.log_prob(self.sampler(key, ROWS)))

    def evaluate(self, flow, key):
        return -jnp.mean(flow.log_prob(self.sampler(key, 16 * ROWS)))


class Tempered(eqx.Module):
    """The density to a power."""

    power: Array
    energy: Callable = eqx.field(static=True)

    def __call__(self, z):
        return self.power * self.energy(z)


def adam(first: float, last: float, steps: int) -> optax.GradientTransformation:
    rate = optax.cosine_decay_schedule(first, steps, alpha=last / first)
    return optax.chain(optax.clip_by_global_norm(10.0), optax.adam(rate, b2=0.99))


def train_on_density(flow: pf.Flow, energy: Callable, steps: int, top: float, key: PRNGKeyArray) -> pf.Flow:
    hot = int(steps * TEMPERED_SHARE) // NUM_TEMPERATURES
    rest = (steps - hot * NUM_TEMPERATURES) // 2
    optimizer = adam(top, top, hot)
    for power in (np.arange(NUM_TEMPERATURES) + 0.5) / NUM_TEMPERATURES:
        objective = pf.ReverseKL(Tempered(jnp.array(power), energy), DRAWS, path_gradient=False)
        flow, _ = pf.train(flow, objective, key=key, steps=hot, optimizer=optimizer, num_evaluations=2)
    for path, first, last in ((False, top, top / 3), (True, top / 3, top / 1000)):
        objective = pf.ReverseKL(energy, DRAWS, path_gradient=path, num_evaluation_samples=4096)
        flow, _ = pf.train(flow, objective, key=key, steps=rest, optimizer=adam(first, last, rest), num_evaluations=8)
    return flow


def train_on_samples(flow: pf.Flow, sampler: Callable, steps: int, top: float, key: PRNGKeyArray) -> pf.Flow:
    optimizer = adam(top, top / 1000, steps)
    return pf.train(flow, FreshSamples(sampler), key=key, steps=steps, optimizer=optimizer, num_evaluations=8)[0]


def reverse_divergence(flow: pf.Flow, energy: Callable) -> float:
    """KL(q || p) by quadrature, in float64."""
    with jax.enable_x64(True):
        flow = jax.tree.map(lambda a: a.astype("float64") if eqx.is_inexact_array(a) else a, flow)
        return float(_divergence(flow, energy) + log_normalizer(energy))


@eqx.filter_jit
def _divergence(flow: pf.Flow, energy: Callable, size: int = 1000) -> Float[Array, ""]:
    """KL(q || p) minus log Z by the trapezoid rule on [-6.5, 6.5]^2 in the base's coordinates."""
    line = jnp.linspace(-6.5, 6.5, size)
    u = jnp.stack(jnp.meshgrid(line, line), -1).reshape(size, size, 2)

    def row(u):
        x, log_det = flow.bijection.batched.forward_and_log_det(u)
        log_base = flow.base_distribution.log_prob(u)
        return jnp.sum(jnp.exp(log_base) * (log_base - log_det - jax.vmap(energy)(x)))

    return jax.lax.map(row, u).sum() * (line[1] - line[0]) ** 2


def log_normalizer(energy: Callable, size: int = 2000) -> Float[Array, ""]:
    line = jnp.linspace(-14.0, 14.0, size)
    total = jax.nn.logsumexp(jax.lax.map(lambda x: jax.vmap(lambda y: energy(jnp.stack([x, y])))(line), line))
    return total + 2 * jnp.log(line[1] - line[0])


@eqx.filter_jit
def test_losses(flow: pf.Flow, sampler: Callable, key: PRNGKeyArray) -> Array:
    keys = jr.split(key, 50)
    return -jax.lax.map(lambda k: flow.log_prob(sampler(k, NUM_TEST // 50)), keys).reshape(-1)


def fit_to_density(family: str, target: str, key: PRNGKeyArray) -> pf.Flow:
    build_key, train_key = jr.split(key)
    return train_on_density(
        build(family, "sampling", build_key), ENERGIES[target], FAMILIES[family].steps, RATE, train_key
    )


def elbo(flow: pf.Flow, energy: Callable) -> float:
    """The mean of log p - log q over fresh draws."""
    return -float(eqx.filter_jit(pf.ReverseKL(energy, num_evaluation_samples=50_000).evaluate)(flow, jr.key(99)))


def measure(family: str, target: str, seed: int, starts: int) -> dict:
    family_key, test_key = jr.split(jr.key(seed))
    start = time.perf_counter()
    if target in ENERGIES:
        energy = ENERGIES[target]
        flows = [fit_to_density(family, target, jr.fold_in(family_key, n)) for n in range(starts)]
        flow = max(flows, key=lambda flow: elbo(flow, energy))
        seconds = (time.perf_counter() - start) / starts
        divergence, error = reverse_divergence(flow, energy), 0.0
    else:
        build_key, train_key = jr.split(family_key)
        sampler, entropy = DENSITIES[target]
        steps, rate, starts = FAMILIES[family].steps, FAMILIES[family].rate, 1
        flow = train_on_samples(build(family, "density", build_key), sampler, steps, rate, train_key)
        seconds = time.perf_counter() - start
        losses = np.asarray(test_losses(flow, sampler, test_key), float)
        divergence, error = float(losses.mean() - entropy), float(losses.std() / len(losses) ** 0.5)
    size = pf.bijections.num_parameters(flow.bijection)
    facts = {"seconds": seconds, "parameters": size, "steps": FAMILIES[family].steps, "starts": starts}
    return {"kl": divergence, "se": error} | facts


def table(results: dict, targets: list[str]) -> str:
    lines = [f"| family | {' | '.join(targets)} | parameters | seconds |", "|---" * (len(targets) + 3) + "|"]
    for family in FAMILIES:
        found = [results.get(f"{family}: {target}") for target in targets]
        known = [f for f in found if f]
        if known:
            cells = [f"{f['kl']:.4f}" if f else "" for f in found]
            seconds = np.median([f["seconds"] for f in known])
            lines.append(f"| {family} | {' | '.join(cells)} | {known[0]['parameters']:,} | {seconds:.0f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    targets = [*ENERGIES, *DENSITIES]
    parser.add_argument("--families", nargs="+", default=[*FAMILIES], choices=[*FAMILIES], metavar="NAME")
    parser.add_argument("--targets", nargs="+", default=targets, choices=targets, metavar="NAME")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--starts", type=int, default=2, help="number of trainings by reverse KL; the best ELBO counts")
    parser.add_argument("--table", action="store_true", help="only print what was measured before")
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if not options.table:
        for family in options.families:
            for target in options.targets:
                found = measure(family, target, options.seed, options.starts)
                print(f"{family}: {target}: {found}", flush=True)
                results[f"{family}: {target}"] = found
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")
                # Compiled programs would use up the memory maps that a process may have.
                jax.clear_caches()
    print(table(results, [*ENERGIES]), table(results, [*DENSITIES]), sep="\n\n")


if __name__ == "__main__":
    main()

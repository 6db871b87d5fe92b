"""Kill each of the five fits at random moments (SIGKILL) and resume it: is the result the same to the bit?

For each fit, one process runs without a checkpoint. Others run with one, and each is killed after a random time; a new
process resumes from the checkpoint, until as many processes as asked for were killed. The last one runs to its end.
"""

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np


def _train(checkpoint):
    import optax

    import pushforward as pf

    flow = pf.flows.realnvp(3, key=jr.key(0), num_layers=4, hidden=(32,))
    objective = pf.ReverseKL(lambda x: -0.5 * jnp.sum((x - 1) ** 2) - jnp.sum(x**4), 64)
    return pf.train(flow, objective, key=jr.key(1), steps=6000, optimizer=optax.adam(1e-3), checkpoint=checkpoint)


def _fit_posterior(checkpoint):
    import pushforward as pf
    from pushforward import examples

    target = pf.Target.from_numpyro(examples.eight_schools_noncentered, **examples.EIGHT_SCHOOLS)
    posterior = pf.fit_posterior(target, key=jr.key(0), checkpoint=checkpoint)
    return posterior, posterior.history


def _fit_density(checkpoint):
    import pushforward as pf

    rng = np.random.default_rng(0)
    angle, radius = rng.uniform(0, 6.3, 2000), rng.choice([1.0, 3.0], 2000)
    x = (radius * np.array([np.cos(angle), np.sin(angle)])).T + 0.1 * rng.normal(size=(2000, 2))
    density = pf.fit_density(x, key=jr.key(0), checkpoint=checkpoint)
    return density, density.history


def _log_joint(draw, data):
    return -0.5 * draw["m"] ** 2 - 0.5 * jnp.sum((data - draw["m"]) ** 2)


def _fit_amortized(checkpoint):
    import pushforward as pf

    target = pf.ConditionalTarget(_log_joint, {"m": 0.0}, jnp.zeros(4))
    data = jr.normal(jr.key(1), (500, 4)) + jr.normal(jr.key(2), (500, 1))
    posterior = pf.fit_amortized(target, data, key=jr.key(0), steps=3000, checkpoint=checkpoint)
    return posterior, posterior.history


def _fit_vae(checkpoint):
    import pushforward as pf

    images = (np.random.default_rng(0).random((600, 6, 6)) < 0.3).astype(np.float32)
    images[:300, 2] = 1.0
    vae = pf.vae.build((6, 6), key=jr.key(0), dim=2, num_layers=2, prior_layers=2, widths=(32,), features=8)
    return pf.fit_vae(images, key=jr.key(1), vae=vae, max_epochs=80, checkpoint=checkpoint)


FITS = {
    "train": _train,
    "fit_posterior": _fit_posterior,
    "fit_density": _fit_density,
    "fit_amortized": _fit_amortized,
    "fit_vae": _fit_vae,
}


def digest(result, history) -> str:
    """A digest of all bits of a result; times differ from run to run, and the order of a distribution's arrays too."""
    records = [record._replace(seconds=0.0) for record in history.evaluations]
    parts = [_bits(leaf) for leaf in jax.tree.leaves(eqx.filter(_parameters(result), eqx.is_array))]
    return hashlib.sha256(b"".join([*sorted(parts), history.losses.tobytes(), str(records).encode()])).hexdigest()


def _bits(leaf) -> bytes:
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return np.asarray(jr.key_data(leaf) if is_key else leaf).tobytes()


def _parameters(result):
    for name in ("flow", "pool"):
        if not hasattr(result, name):
            return result
    return result.flow, result.pool, result.pool_weights


def _child(fit: str, checkpoint: str | None) -> None:
    jax.config.update("jax_enable_x64", True)
    print(digest(*FITS[fit](checkpoint)))


def _start(fit: str, checkpoint: Path | None) -> subprocess.Popen:
    command = [sys.executable, __file__, "--child", fit, *([] if checkpoint is None else [str(checkpoint)])]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def study(fit: str, kills: int, seed: int) -> tuple[bool, int, int]:
    """Whether every resumed result had the same bits, the number of results, and of killed processes."""
    rng = random.Random(f"{fit} {seed}")
    began = time.monotonic()
    expected = _start(fit, None).communicate()[0]
    whole = time.monotonic() - began
    killed, same, results = 0, True, 0
    while killed < kills:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "checkpoint"
            for _ in range(rng.randint(2, 5)):
                process = _start(fit, path)
                try:
                    process.wait(rng.uniform(0.2, 1.0) * whole)
                except subprocess.TimeoutExpired:
                    process.kill()
                    killed += 1
                process.communicate()
            found = _start(fit, path).communicate()[0]
            same, results = same and found == expected != "", results + 1
            left = [file.name for file in Path(folder).iterdir() if file.name != path.name]
            same = same and not left
    return same, results, killed


def main() -> None:
    """Run the study and print a line for each fit."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=FITS, default=[*FITS], help="the fits to study")
    parser.add_argument("--kills", type=int, default=20, help="the smallest number of killed processes per fit")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        _child(options.child[0], options.child[1] if len(options.child) > 1 else None)
        return
    for fit in options.only:
        same, results, killed = study(fit, options.kills, options.seed)
        outcome = "the same bits in each" if same else "DIFFERENT BITS"
        print(f"{fit:15s} {killed} processes killed, {results} resumed results: {outcome}", flush=True)


if __name__ == "__main__":
    main()

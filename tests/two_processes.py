"""A fit by two processes, each of which reads its own part of a file; test_processes.py runs this program twice."""

import os
import signal
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

import pushforward as pf
from pushforward.posterior.spaces.rows import RowsOnDisk
from pushforward.training import processes
from pushforward.training.mapped import Mapped


def log_likelihood(u, rows):
    return -0.5 * jnp.sum((rows - u) ** 2, 1)


def fit(data, *, mesh=None, checkpoint=None, callback=None):
    target = pf.Target(
        lambda u: -0.5 * u @ u - u[0] ** 4, jnp.zeros(1), log_likelihood=log_likelihood, data=data, batch_size=64
    )
    assert isinstance(target.space.rows, RowsOnDisk)
    flow = pf.flows.linear(1, key=jr.key(0))
    return pf.fit_posterior(
        target, key=jr.key(0), flow=flow, budget=256 * 500, mesh=mesh, checkpoint=checkpoint, callback=callback
    )


def main(data, folder, port, process, killed):
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_disable_most_optimizations", True)
    processes.start(f"localhost:{port}", 2, process)
    mesh = jax.make_mesh((jax.device_count(),), ("devices",))

    read, original = [], Mapped.read
    Mapped.read = lambda self, indices: read.append(len(np.asarray(indices))) or original(self, indices)

    def callback(progress):
        if killed and process == 1 and progress.step >= 250:
            os.kill(os.getpid(), signal.SIGKILL)

    posterior = fit(data, mesh=mesh, checkpoint=folder / "fit.checkpoint", callback=callback)
    # The chunks of passes through all rows.
    assert 32 in read, read
    draws = posterior.sample(jr.key(1), 10)
    np.savez(
        folder / f"{process}.npz",
        losses=posterior.history.losses,
        draws=draws,
        log_evidence=posterior.diagnostics.log_evidence,
    )
    for call in (
        lambda: fit(data, mesh=mesh, checkpoint=folder / f"{process}.checkpoint"),
        lambda: disagreeing(mesh, process),
    ):
        try:
            call()
        except ValueError as error:
            print(error)
        else:
            raise AssertionError("processes that disagree were not refused")


def disagreeing(mesh, process):
    flow = pf.flows.linear(2, key=jr.key(process))
    pf.train(flow, pf.ForwardKL(jnp.ones((64 + process, 2)), batch_size=64), key=jr.key(0), mesh=mesh)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), sys.argv[5] == "killed")

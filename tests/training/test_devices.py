"""Fits on eight virtual devices equal those on one, in a process of its own; meshes that do not fit are named."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.sharding import AbstractMesh, Mesh

import pushforward as pf
from pushforward.training.devices import check_mesh, gather, on_mesh, place, replicate, spread

PROGRAM = Path(__file__).parents[1] / "eight_devices.py"


def test_fits_on_eight_devices_equal_those_on_one():
    environment = os.environ | {
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"
    }
    ran = subprocess.run([sys.executable, PROGRAM], env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-4000:]


def test_a_mesh_of_one_device_changes_nothing():
    mesh, x = Mesh(jax.devices()[:1], "devices"), jnp.arange(6.0)
    with on_mesh(mesh):
        found = jax.jit(lambda x: replicate(spread(x) + 1))(place(x, mesh))
    np.testing.assert_array_equal(gather(found, mesh), x + 1)
    assert place(x, None) is x
    assert spread(x) is x


def test_meshes_that_do_not_fit_are_named():
    with pytest.raises(TypeError, match="mesh must be a jax.sharding.Mesh, such as"):
        pf.train(pf.flows.linear(2, key=jr.key(0)), pf.ReverseKL(lambda x: -x @ x), key=jr.key(0), mesh=3)
    three = AbstractMesh((3,), ("devices",))
    with jax.sharding.use_abstract_mesh(three), pytest.raises(ValueError, match="3 devices, which do not divide"):
        jax.eval_shape(spread, jnp.zeros((256, 2)))
    check_mesh(None, {"rows": 3})

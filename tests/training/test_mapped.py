"""Rows of memory-mapped files, read inside and outside of compiled programs."""

import jax
import jax.numpy as jnp
import numpy as np

from pushforward.training.mapped import Mapped


def test_rows_are_read_and_converted_inside_programs(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (50, 3), np.uint8)
    np.save(tmp_path / "pixels.npy", pixels)
    mapped = Mapped({"x": np.load(tmp_path / "pixels.npy", mmap_mode="r")}, lambda a: a / np.float32(255), real=True)
    assert mapped.num_rows == 50
    indices = jnp.array([4, 49, 4])
    for at in (mapped.at, jax.jit(mapped.at), mapped.read):
        found = at(indices)["x"]
        assert found.dtype == jnp.result_type(float)
        np.testing.assert_array_equal(found, (pixels / np.float32(255))[indices])

"""Sums over rows in chunks, rows on disk, and data that do not go together."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from pushforward.posterior.spaces.rows import BLOCK, RowsOnDisk, data_rows


@pytest.fixture
def mapped(tmp_path):
    values = np.random.default_rng(0).normal(size=(1000, 2))
    np.save(tmp_path / "rows.npy", values)
    return values, np.load(tmp_path / "rows.npy", mmap_mode="r")


def of_chunk(rows, mask):
    return jnp.sum(jnp.where(mask, rows[:, 0] * rows[:, 1], 0.0))


@pytest.mark.parametrize("size", [1, 300, 1000])
def test_chunks_add_up_to_all_rows(mapped, size):
    values, on_disk = mapped
    for data in (values, on_disk):
        total = jax.jit(lambda data=data: data_rows(data).total(of_chunk, size))()
        np.testing.assert_allclose(total, np.sum(values[:, 0] * values[:, 1]), rtol=1e-12)


def test_rows_on_disk_are_differentiated_and_batched(mapped):
    values, on_disk = mapped
    rows = data_rows(on_disk)
    assert isinstance(rows, RowsOnDisk)

    def square(u):
        return rows.total(lambda rows, mask: jnp.sum(jnp.where(mask, (rows @ u) ** 2, 0.0)), 300)

    us = jnp.array([[1.0, 2.0], [0.5, -1.0]])
    np.testing.assert_allclose(jax.vmap(jax.hessian(square))(us), jnp.stack([2 * values.T @ values] * 2), rtol=1e-12)


def test_batches_of_a_file_are_rows_of_random_blocks(mapped):
    values, on_disk = mapped
    source = data_rows(on_disk).batches(64, jr.key(0)).at(0)
    again, other = (data_rows(on_disk).batches(64, jr.key(0)).at(step) for step in (0, 250))
    np.testing.assert_array_equal(source.values, again.values)
    assert not np.array_equal(source.values, other.values)
    assert len(source) == 4 * BLOCK
    assert np.isin(np.asarray(source.values), values).all()


def test_table_files_are_matrices(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text("a,b\n1,2\n3,4\n5,6\n")
    rows = data_rows({"table": path, "weights": np.ones(3)})
    assert isinstance(rows, RowsOnDisk)
    np.testing.assert_array_equal(rows.at(jnp.array([2, 0]))["table"], [[5.0, 6.0], [1.0, 2.0]])


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({}, "data is empty"),
        ({"x": np.zeros((3, 2)), "y": np.zeros(4)}, r"data\['x'\] has 3, data\['y'\] has 4"),
        (np.zeros((0, 2)), "positive number of rows"),
        ({"x": np.array([1.0, np.nan, 2.0])}, r"data\['x'\] must be finite, but row 1 "),
        ({"x": np.array(["a", "b"])}, r"data\['x'\] must be an array of real numbers"),
        (3.0, "with rows along its first axis"),
    ],
)
def test_data_that_are_no_rows_are_named(data, words):
    with pytest.raises(ValueError, match=words):
        data_rows(data)

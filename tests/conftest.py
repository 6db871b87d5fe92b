"""All tests run in float64 unless they ask for float32."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

from pathlib import Path  # noqa: E402

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_enable_x64", True)


@pytest.fixture(params=["float64", "float32"])
def precision(request):
    """Run the test in float64 and in float32."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@pytest.fixture(scope="session")
def reference_data():
    """The folder of published reference draws; it is no part of the project."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"reference data are not at {folder}")
    return folder


@pytest.fixture(autouse=True, scope="module")
def _forget_programs():
    """Compiled programs hold memory mappings, of which a process may have 65,530: without this the suite runs out."""
    yield
    jax.clear_caches()

"""All tests run in float64 unless they request float32."""

import importlib.metadata
import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Compilation takes most of the time of the tests. Without XLA's MLIR fusion emitters, the suite takes a quarter less
# time. Later versions have only these emitters.
if tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (0, 11):
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

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
    """The folder of published reference draws, which is not part of the project."""
    folder = Path(os.environ.get("PUSHFORWARD_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "posteriordb" / "index.json").is_file():
        pytest.skip(f"no reference draws in {folder}; the variable PUSHFORWARD_DATA names their folder")
    return folder


@pytest.fixture(autouse=True, scope="module")
def _programs(request):
    """Disable most optimizations in modules that set `COMPILED_FAST = True`, and clear the caches after each module.

    Compiled programs hold memory mappings, and the whole suite would exceed the limit of 65,530 for one process.
    """
    jax.config.update("jax_disable_most_optimizations", getattr(request.module, "COMPILED_FAST", False))
    yield
    jax.clear_caches()

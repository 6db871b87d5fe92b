"""All tests run in float64 unless they request float32."""

import contextlib
import importlib.metadata
import os
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Otherwise the threads of SciPy's BLAS, which JAX calls for factorizations, compete with those of JAX and of the other
# worker.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Processes share compiled programs, and so do later runs.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parents[1] / ".pytest_cache" / "programs"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
# Compilation takes most of the time of the tests. Without XLA's MLIR fusion emitters, the suite takes a quarter less
# time. Later versions have only these emitters.
if tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (0, 11):
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

import jax  # noqa: E402
import jaxtyping  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_enable_x64", True)


@contextlib.contextmanager
def _raises(*args, **kwargs):
    """`pytest.raises`, in which annotations are not enforced: users get the errors of the library."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        with _pytest_raises(*args, **kwargs) as caught:
            yield caught
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


_pytest_raises, pytest.raises = pytest.raises, _raises


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
    """Compile without most optimizations, unless a module sets `OPTIMIZED = True`, and clear the caches after each one.

    Compiled programs hold memory mappings, and the whole suite would exceed the limit of 65,530 for one process.
    """
    jax.config.update("jax_disable_most_optimizations", not getattr(request.module, "OPTIMIZED", False))
    yield
    jax.clear_caches()

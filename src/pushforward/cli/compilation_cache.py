"""The folder in which commands keep compiled programs: half of the time of a small fit is compilation."""

import os
import platform
import sys
from contextlib import suppress
from pathlib import Path

# The least recently used programs are removed beyond this number of bytes.
MAX_SIZE = 1 << 29


def keep_programs() -> None:
    """Let JAX keep compiled programs in the user's cache folder, unless the user has configured such a folder."""
    import jax

    # An empty variable means that the user wants none.
    configured = getattr(jax.config, "jax_compilation_cache_dir", None)
    if "JAX_COMPILATION_CACHE_DIR" in os.environ or configured is not None:
        return
    # A program is compiled for the processor of one machine, and home folders may be shared.
    folder = cache_folder() / "pushforward" / f"programs-{platform.node() or 'local'}"
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_compilation_cache_max_size", MAX_SIZE)
        # Also the many small programs.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def cache_folder() -> Path:
    """The user's folder for caches, by the conventions of the system."""
    if named := os.environ.get("XDG_CACHE_HOME"):
        return Path(named)
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    return Path.home() / ".cache"

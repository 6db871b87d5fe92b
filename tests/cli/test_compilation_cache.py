"""Commands keep compiled programs in the user's cache folder, unless the user has configured another."""

import os
import platform
import subprocess
import sys

import jax
import pytest

from pushforward.cli.compilation_cache import MAX_SIZE, keep_programs

COMMAND = """
import sys
from pushforward.cli import main, report
def run(options, console):
    import jax
    jax.jit(lambda x: 2 * x)(1.0)
    return 0
report._run = run
sys.argv = ["pushforward", "report", "saved.flow"]
sys.exit(main())
"""


@pytest.fixture
def unconfigured(monkeypatch, tmp_path):
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = [f"jax_{name}" for name in ("compilation_cache_dir", "compilation_cache_max_size")]
    names.append("jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    jax.config.update("jax_compilation_cache_dir", None)
    yield tmp_path / "cache" / "pushforward" / f"programs-{platform.node()}"
    for name, value in before.items():
        jax.config.update(name, value)


def test_the_folder_is_the_users_and_of_this_machine(unconfigured):
    keep_programs()
    assert jax.config.jax_compilation_cache_dir == str(unconfigured)
    assert unconfigured.is_dir()
    assert jax.config.jax_compilation_cache_max_size == MAX_SIZE


@pytest.mark.parametrize("value", ["elsewhere", ""])
def test_a_configured_folder_stays(value, unconfigured, monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", value)
    keep_programs()
    assert jax.config.jax_compilation_cache_dir is None
    assert not unconfigured.exists()


def test_a_folder_that_cannot_be_written_is_not_used(unconfigured):
    unconfigured.parents[1].write_text("a file")
    keep_programs()
    assert jax.config.jax_compilation_cache_dir is None


def test_a_command_keeps_its_programs(unconfigured):
    environment = os.environ | {"XDG_CACHE_HOME": str(unconfigured.parents[1])}
    subprocess.run([sys.executable, "-c", COMMAND], env=environment, check=True)
    assert any(path.name.endswith("-cache") for path in unconfigured.iterdir())

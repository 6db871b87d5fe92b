"""Commands keep compiled programs in the user's cache folder, unless the user has configured another."""

import os
import platform

import pytest

from pushforward.cli import compilation_cache
from pushforward.cli.compilation_cache import keep_programs


@pytest.fixture
def without_variables(monkeypatch, tmp_path):
    for name in list(os.environ):
        if name.startswith(("JAX_COMPILATION_CACHE", "JAX_PERSISTENT_CACHE")):
            monkeypatch.delenv(name)
    # What the function sets is undone too.
    monkeypatch.setattr(os, "environ", dict(os.environ) | {"XDG_CACHE_HOME": str(tmp_path / "cache")})
    return tmp_path


def test_the_folder_is_the_users_and_of_this_machine(without_variables):
    keep_programs()
    folder = without_variables / "cache" / "pushforward" / f"programs-{platform.node()}"
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(folder)
    assert folder.is_dir()
    assert int(os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"]) == compilation_cache.MAX_SIZE


@pytest.mark.parametrize("value", ["elsewhere", ""])
def test_a_configured_folder_stays(value, without_variables):
    os.environ["JAX_COMPILATION_CACHE_DIR"] = value
    keep_programs()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == value
    assert "JAX_COMPILATION_CACHE_MAX_SIZE" not in os.environ


def test_a_folder_that_cannot_be_written_is_not_used(without_variables):
    (without_variables / "cache").write_text("a file")
    keep_programs()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ

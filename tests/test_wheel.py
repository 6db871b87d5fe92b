"""The wheel, built from the source distribution, is complete, and enough for a clean environment."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

import pushforward as pf

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src"
PROGRAM = """
import jax, jax.numpy as jnp, pushforward as pf

target = pf.Target(lambda x: -0.5 * jnp.sum(x**2), jnp.zeros(2))
posterior = pf.fit_posterior(target, key=jax.random.key(0), budget=100_000)
posterior.report("page.html")
assert posterior.diagnostics.verdict == "good", posterior.diagnostics
assert "plotly" in open("page.html").read()
print(pf.__file__)
"""


def run(*command, cwd):
    # Without this, the sources would be imported.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout[-1000:]}{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The folder of a source distribution, and of the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("built")
    run(sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT), cwd=folder)
    return folder


@pytest.mark.wheel
def test_contents(built):
    """Every file of the package is in the wheel, and nothing else; the sources hold what their tests and pages need."""
    files = {p.relative_to(SOURCE).as_posix() for p in SOURCE.rglob("*") if p.is_file() and p.suffix != ".pyc"}
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        information = {name.rsplit(".dist-info/")[1] for name in archive.namelist() if ".dist-info/" in name}
    assert names == files and {"pushforward/py.typed", "pushforward/reports/assets/page.html.j2"} <= names
    assert {"METADATA", "entry_points.txt", "licenses/LICENSE"} <= information
    (sources,) = built.glob("*.tar.gz")
    with tarfile.open(sources) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    needed = {
        "pyproject.toml",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "CITATION.cff",
        "tests/test_wheel.py",
        "mkdocs.yml",
    }
    assert needed | {f"src/{name}" for name in files} <= inside
    assert sources.stat().st_size < 20e6 and wheel.stat().st_size < 2e6


@pytest.mark.wheel
def test_a_clean_environment(built, tmp_path):
    venv.create(tmp_path / "env", with_pip=True)
    bin_folder = tmp_path / "env" / "bin"
    (wheel,) = built.glob("*.whl")
    run(bin_folder / "python", "-m", "pip", "install", "--quiet", wheel, cwd=tmp_path)
    assert run(bin_folder / "pushforward", "--version", cwd=tmp_path).strip() == pf.__version__
    assert str(tmp_path / "env") in run(bin_folder / "python", "-c", PROGRAM, cwd=tmp_path)

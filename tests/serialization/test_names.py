"""What a file names is not imported because of that."""

import ast
import os
import subprocess
import sys

import pytest

from pushforward.serialization.names import Refused, resolve, shown

# Modules of the packages that files may use, of the standard library and of nobody; several do something when they are
# imported. Some modules import others when they are asked for an attribute.
FORGED = [
    "numpy.f2py.__main__:main", "numpy.f2py.diagnose:run", "numpy.testing.print_coercion_tables:x", "numpy:f2py",
    "numpy:testing", "numpy.distutils.core:setup", "numpyro.contrib.funsor:enum", "numpyro.contrib.ecs_proxies:x",
    "jax.experimental.host_callback:call", "jax.experimental.pallas:x", "jax.collect_profile:main", "jax.tools:x",
    "jax.tools.jax_to_ir:main", "optax.contrib:sam", "diffrax.nothing:x", "equinox.nn.nothing:x", "antigravity:x",
    "pushforward.cli:main", "pushforward.sklearn:FlowDensity", "pushforward.examples:EIGHT_SCHOOLS",
    "pushforward.testing:check_bijection", "pushforward.reports.page:page", "pushforward.nothing:x",
    "builtins.x:y", ":", "", "a" * 10_000, "pushforward.density..data:x", "pushforward.bijections./tmp/x:y",
]  # fmt: skip


def test_names_import_nothing():
    code = f"""
import sys
from pushforward.serialization.names import Refused, resolve
before = {{*sys.modules}}
for name in {FORGED!r}:
    try:
        print(repr(("found", name, resolve(name, ()))))
    except Refused:
        pass
print(sorted({{name.split(":")[0] for name in {FORGED!r}}} & {{*sys.modules}} - before))
# A class of Optax needs Optax, one of this library its module.
resolve("optax:ScaleByAdamState", ()), resolve("pushforward:Flow", ()), resolve("equinox.nn:MLP", ())
print(sorted(name for name in {{*sys.modules}} - before if name.startswith("pushforward")))
"""
    result = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    *found, forged, own = map(ast.literal_eval, result.stdout.splitlines())
    assert not found and not forged
    assert "pushforward.flow" in own and "pushforward.cli" not in own


def test_trusted_modules_are_imported(tmp_path, monkeypatch):
    (tmp_path / "trusted_module.py").write_text("def f(): pass\n")
    (tmp_path / "broken_module.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(Refused, match=r"trusted=\('trusted_module',\)"):
        resolve("trusted_module:f", ())
    assert "trusted_module" not in sys.modules
    assert resolve("trusted_module:f", ("trusted_module",)).__name__ == "f"
    assert resolve("trusted_module:f", None).__name__ == "f"
    for name, words in (
        ("broken_module:f", "cannot be imported: ZeroDivisionError"),
        ("missing_package:f", "does not exist: No module named 'missing_package'"),
    ):
        with pytest.raises(Refused, match=words):
            resolve(name, (name.partition(":")[0],))


def test_text_of_files_is_shown_without_control_characters():
    assert shown("a\x1b[31mb\r\n\N{GREEK SMALL LETTER PHI}") == "a\\x1b[31mb\\r\\n\N{GREEK SMALL LETTER PHI}"
    assert len(shown("x" * 1000)) < 310

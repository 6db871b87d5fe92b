"""The examples in docstrings run as printed, and the main names have one.

Examples of one function or class share their names, in the order of the source: those of methods use what the example
of the class has made.
"""

import ast
import doctest
from pathlib import Path

import pytest

import pushforward as pf

SOURCE = Path(pf.__file__).parent
MAIN = [
    pf.fit_posterior, pf.fit_density, pf.fit_amortized, pf.fit_vae, pf.train, pf.diagnose, pf.load, pf.save, pf.Flow,
    pf.Target, pf.Target.from_numpyro, pf.Posterior, pf.Posterior.sample, pf.Posterior.resample, pf.Posterior.log_prob,
    pf.Posterior.summary, pf.Posterior.refine, pf.Posterior.to_arviz, pf.Posterior.report, pf.Posterior.save,
]  # fmt: skip


def documented():
    """The module and the parts of each function or class with examples: pairs of names and docstrings."""
    for path in sorted(SOURCE.rglob("*.py")):
        text = path.read_text()
        if ">>>" not in text:
            continue
        module = ".".join(("pushforward", *path.relative_to(SOURCE).with_suffix("").parts))
        for node in ast.parse(text).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                inner = (
                    [n for n in node.body if isinstance(n, ast.FunctionDef)] if isinstance(node, ast.ClassDef) else []
                )
                parts = [(n.name, ast.get_docstring(n) or "") for n in (node, *inner)]
                if any(">>>" in text for _, text in parts):
                    yield pytest.param(module, parts, id=f"{module}.{node.name}")


@pytest.mark.parametrize(("module", "parts"), list(documented()))
def test_examples_run_as_printed(module, parts, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    runner, report = doctest.DocTestRunner(verbose=False), []
    for name, text in parts:
        test = doctest.DocTestParser().get_doctest(text, names, name, module, 0)
        runner.run(test, out=report.append, clear_globs=False)
        names = test.globs
    assert not runner.failures, "".join(report)


@pytest.mark.parametrize("main", MAIN, ids=lambda main: main.__qualname__)
def test_main_names_have_an_example(main):
    assert ">>>" in main.__doc__

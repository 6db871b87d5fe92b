"""Packages import only from packages below, tests mirror the source, files stay small, public names have docstrings."""

import ast
import graphlib
import importlib
import inspect
import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import pushforward as pf

SOURCE = Path(pf.__file__).parent
FILES = {".".join(f.relative_to(SOURCE).with_suffix("").parts): f for f in sorted(SOURCE.rglob("*.py"))}
# A package is listed by its own name.
FILES = {name.removesuffix(".__init__"): path for name, path in FILES.items() if name != "__init__"}

# From the bottom up. A module imports from its own package and from packages below it.
FLOORS = (
    ("masked",),
    ("arguments", "files", "generators", "memory", "printable", "user_warnings"),
    ("serialization",),
    ("bijections",),
    ("flow", "weights"),
    ("gaussian_mixture",),
    ("flows", "rosenblatt", "training"),
    ("numpyro", "reports", "testing"),
    ("density", "vae"),
    ("posterior",),
    ("examples", "sklearn"),
    ("cli",),
)
FLOOR = {name: number for number, floor in enumerate(FLOORS) for name in floor}

TESTS = Path(__file__).parent
TEST_FILES = {f.relative_to(TESTS).with_suffix("").as_posix() for f in TESTS.rglob("test_*.py")}

# Modules without a test file of their own, and the file that tests them through a module above.
TESTED_ELSEWHERE = {
    "bijections.arrays": "bijections/test_monotone",  # maps over parameters, as conditioners set them
    "bijections.intervals": "bijections/test_composition",  # which parts fit together in a chain
    "bijections.solvers.monotone": "bijections/test_monotone",  # inverses of networks
    "bijections.wrappers": "testing/test_conformance",  # inverses are in the cases
    "density.baselines": "density/test_evaluate",  # scores of the Gaussian and of the mixture
    "density.normalization": "density/test_conditional",  # by quadrature and by importance sampling
    "density.proposal": "density/test_conditional",  # of that importance sampling
    "density.recipe": "density/test_fit",  # the course of a training
    "density.whitened_flow": "density/test_fit",  # flows in the units of the data
    "flows.linear": "flows/test_recipes",  # all recipes
    "flows.stack": "flows/test_recipes",  # what all recipes share
    "posterior.amortized": "posterior/test_amortized_fit",  # the result of such a fit
    "posterior.arviz": "posterior/test_result",  # the groups of a posterior
    "posterior.objective": "posterior/test_fit",  # what fits of known targets reach
    "reports.columns": "posterior/test_result",  # the names of scalars
    "reports.blocks": "reports/test_page",  # every kind on a page
    "reports.charts": "reports/test_page",  # charts that a browser draws
    "reports.figures": "reports/test_density",  # ranges of axes
    "reports.posterior": "posterior/test_page",  # its page and figures
    "reports.vae": "vae/test_pictures",  # its sheets, figures and page
    "serialization.classes": "serialization/test_file",  # the classes that files hold
    "serialization.decoding": "serialization/test_file",  # what saved trees are loaded as
    "serialization.encoding": "serialization/test_file",  # what trees may hold
    "testing.structure": "testing/test_conformance",  # broken fields and shapes
    "training.history": "vae/test_objective",  # series of numbers
    "training.optimizers": "vae/test_fit",  # gradients that are far too long
    "user_warnings": "serialization/test_file",  # the line that a warning names
    "vae.posteriors": "vae/test_objective",  # every family
    "vae.priors": "vae/test_objective",  # every family
    "vae.recipe": "vae/test_model",  # names of families that do not exist
}

# Test files that belong to no single module.
WITHOUT_MODULE = {
    "flows/test_recipes",  # what all recipes have in common
    "test_public_arguments",  # the arguments of all public functions
    "test_fitted",  # the page of what can be fitted equals the tables of the tests
    "test_docstrings",  # the examples in docstrings
    "test_docs",  # the examples and links of README and documents
    "test_language",  # the phrases in sources and documents
    "test_layout",
    "test_wheel",  # what the package holds, in a clean environment
}


def own_tests(name):
    *folders, module = name.split(".")
    return "/".join([*folders, f"test_{module}"])


def is_part(name, of):
    return name == of or name.startswith(f"{of}.")


def imports(path):
    """The modules of this library that a file imports, also inside functions; "" is the package itself."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            # `from package import module` imports `module`, and `from module import name` also imports `module`.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if is_part(name, "pushforward"):
                name = name.removeprefix("pushforward").removeprefix(".")
                yield name if name in FILES else name.rpartition(".")[0]


@pytest.mark.parametrize("name", FILES)
def test_imports_point_down(name):
    own = name.split(".")[0]
    assert own in FLOOR, f"say in FLOORS where {own} belongs"
    for imported in imports(FILES[name]):
        other = imported.split(".")[0]
        assert other == own or FLOOR.get(other, len(FLOORS)) < FLOOR[own], (
            f"{name} must not import {imported or 'pushforward'}"
        )


def test_bijections_rest_on_their_base():
    assert {*imports(FILES["bijections.base"])} <= {"bijections.arrays", "bijections.intervals", "serialization"}


def test_no_circles():
    graph = {name: {*imports(path)} - {name} for name, path in FILES.items()}
    list(graphlib.TopologicalSorter(graph).static_order())


def test_tests_mirror_the_source():
    own = {name: own_tests(name) for name, path in FILES.items() if path.name != "__init__.py"}
    untested = {name for name, file in own.items() if file not in TEST_FILES}
    assert not (added := untested - {*TESTED_ELSEWHERE}), f"write the tests {sorted(map(own_tests, added))}"
    assert not (removed := {*TESTED_ELSEWHERE} - untested), f"remove from TESTED_ELSEWHERE: {sorted(removed)}"
    assert {*TESTED_ELSEWHERE.values()} <= TEST_FILES
    assert TEST_FILES - {*own.values()} == WITHOUT_MODULE, "test files without a module are listed in WITHOUT_MODULE"


def test_no_circles_of_packages():
    graph = {}
    for name, path in FILES.items():
        for imported in imports(path):
            # The largest packages that contain only one of the two modules, or these modules.
            pairs = zip(*(itertools.accumulate(n.split("."), "{}.{}".format) for n in (name, imported)), strict=False)
            for own, other in itertools.islice((pair for pair in pairs if pair[0] != pair[1]), 1):
                graph.setdefault(own, set()).add(other)
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("name", ["utils", "util", "core", "common", "helpers", "misc"])
def test_no_module_for_things_without_a_place(name):
    assert not [module for module in FILES if name in module.split(".")]


@pytest.mark.parametrize("name", FILES)
def test_files_are_one_idea(name):
    """Without the examples that end docstrings."""
    text = re.sub(r'\n\n *Examples:\n.*?(?=\n *""")', "", FILES[name].read_text(), flags=re.S)
    lines = len(text.splitlines())
    assert lines <= 400, f"{name} has {lines} lines: it is probably two ideas"


def public_names(module):
    # The hook that enforces annotations imports jaxtyping into each module.
    return [name for name in dir(module) if not name.startswith("_") and name != "jaxtyping"]


PARTS = ("bijections", "flows", "training", "reports", "testing", "density", "posterior", "vae")
MODULES = ("pushforward", *(f"pushforward.{part}" for part in PARTS))
PUBLIC = [(module, name) for module in MODULES for name in public_names(importlib.import_module(module))]


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=".".join)
def test_public_names_have_docstrings(module, name):
    value = getattr(importlib.import_module(module), name)
    documented = inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value)
    doc = value.__doc__ if documented else "a constant"
    # Without a docstring, dataclasses get their signature as one, and other classes inherit that of their parent.
    assert doc and not doc.startswith(f"{name}(")
    assert not inspect.isclass(value) or all(doc != base.__doc__ for base in value.__mro__[1:])


@pytest.mark.parametrize("name", FILES)
def test_modules_have_docstrings(name):
    assert ast.get_docstring(ast.parse(FILES[name].read_text()))


def test_the_version_is_the_one_in_pyproject():
    project = tomllib.loads((SOURCE.parents[1] / "pyproject.toml").read_text())["project"]
    assert pf.__version__ == project["version"]
    assert f"version: {project['version']}" in (SOURCE.parents[1] / "CITATION.cff").read_text().splitlines()


def test_type_checkers_read_the_annotations():
    assert (SOURCE / "py.typed").exists()


def test_importing_the_package_imports_nothing_heavy():
    """Also if a submodule is imported first, public names are those of the stub."""
    program = """
import sys
import pushforward
assert not {"jax", "numpyro", "scipy", "matplotlib", "rich"} & set(sys.modules), sorted(sys.modules)
import pushforward.rosenblatt.panels
assert callable(pushforward.rosenblatt) and pushforward.flows.__name__ == "pushforward.flows"
import pushforward.density, pushforward.posterior, pushforward.vae
slow = {"scipy.stats", "scipy.spatial", "diffrax", "matplotlib", "rich", "arviz", "pymc", "h5py", "sklearn", "pyarrow"}
slow |= {"jinja2", "plotly"}
assert not slow & set(sys.modules), slow & set(sys.modules)
assert all(getattr(pushforward, name) is not None for name in dir(pushforward))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)

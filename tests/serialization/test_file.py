"""Saving and loading: results are equal to the bit, and trees that cannot be saved raise an error with a reason."""

import dataclasses
import importlib
import io
import json
import os
import subprocess
import sys
import types
import zipfile
from collections import OrderedDict
from typing import Any, NamedTuple

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from numpyro.distributions import constraints, transforms

import pushforward as pf
from cases import CATALOGUE
from pushforward import bijections as bj
from pushforward.serialization import DOCUMENT, RENAMED, load, save

HERE = (__name__,)
KEY = jr.key(0)


def named_function(x):
    return x


named_lambda = lambda x: x  # noqa: E731


class Point(NamedTuple):
    x: Any
    y: Any


class Holder(eqx.Module):
    content: Any
    label: str = eqx.field(static=True, default="none")


@dataclasses.dataclass(frozen=True)
class Derived:
    given: int
    doubled: int = dataclasses.field(init=False)

    def __post_init__(self):
        object.__setattr__(self, "doubled", 2 * self.given)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "saved"


@pytest.fixture
def round_trip(path):
    def run(tree):
        save(path, tree)
        return load(path, trusted=HERE)

    return run


def perturb(tree, key, scale=0.3):
    """A tree far from its initialization."""
    vector = scale * jr.normal(key, (bj.num_parameters(tree),))
    return bj.shift_arrays(tree, vector)


def shift_bijection(flow):
    return eqx.tree_at(lambda f: f.bijection, flow, perturb(flow.bijection, jr.key(3)))


def check_flow(flow, loaded):
    """The loaded flow is equal to the bit, and nothing is compiled again."""
    traces = []

    @eqx.filter_jit
    def log_prob(flow, x, condition):
        traces.append(None)
        return flow.log_prob(x, condition)

    x = jr.normal(jr.key(1), (5, *flow.shape))
    condition = None if flow.cond_shape is None else jr.normal(jr.key(2), (5, *flow.cond_shape))
    assert np.array_equal(log_prob(flow, x, condition), log_prob(loaded, x, condition))
    assert len(traces) == 1


@pytest.mark.parametrize("cond_dim", [None, 2])
@pytest.mark.parametrize("recipe", ["realnvp", "nsf", "maf", "iaf"])
def test_flows(recipe, cond_dim, round_trip):
    flow = shift_bijection(getattr(pf.flows, recipe)(3, key=KEY, num_layers=2, hidden=(8,), cond_dim=cond_dim))
    check_flow(flow, round_trip(flow))


TRIL = jnp.array([[1.0, 0.0, 0.0], [0.5, 2.0, 0.0], [0.1, -0.3, 0.7]])
DISTRIBUTIONS = {
    "independent": dist.Normal(jnp.arange(3.0), 2.0).to_event(1),
    "expanded": dist.StudentT(4.0, 0.0, 1.0).expand((3,)).to_event(1),
    "multivariate": dist.MultivariateNormal(jnp.ones(3), scale_tril=TRIL),
    "mixture": dist.MixtureSameFamily(
        dist.Categorical(logits=jnp.array([0.3, -0.2])), dist.Normal(jnp.arange(6.0).reshape(2, 3), 1.5).to_event(1)
    ),
    "transformed": dist.TransformedDistribution(
        dist.Normal(jnp.zeros(3), 1.0).to_event(1),
        [transforms.AffineTransform(1.0, jnp.full(3, 2.0)), transforms.LowerCholeskyAffine(jnp.ones(3), TRIL)],
    ),
    "truncated": dist.TruncatedNormal(0.0, jnp.ones(3), low=-30.0).to_event(1),
    "bounded": dist.Uniform(-20.0, 20.0).expand((3,)).to_event(1),
}


@pytest.mark.parametrize("learnable", [False, True])
@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_bases(name, learnable, round_trip):
    base = DISTRIBUTIONS[name]
    if learnable and name in ("truncated", "bounded"):
        pytest.skip("not a learnable family")
    flow = pf.Flow(perturb(pf.Learnable(base), jr.key(5)) if learnable else base, bj.Triangular(3))
    loaded = round_trip(flow)
    check_flow(flow, loaded)
    assert loaded.base_distribution.support == flow.base_distribution.support


def test_a_user_s_network_of_equinox(round_trip):
    """Its final activation is a lambda that can be imported by name."""
    network = eqx.nn.MLP(2, bj.num_parameters(bj.Triangular(3)), 8, 2, activation=jax.nn.gelu, key=KEY)
    flow = pf.Flow(DISTRIBUTIONS["independent"], bj.Amortized(bj.Triangular(3), network, (2,)))
    loaded = round_trip(flow)
    check_flow(flow, loaded)
    assert loaded.bijection.network.activation is jax.nn.gelu


def test_values(round_trip):
    values = [
        None, True, False, 0, -(2**70), 0.1, -0.0, float("inf"), "text \N{GREEK SMALL LETTER PHI}\n", 1 - 2.5j,
        complex("nan+infj"),
        (), (1,), [], [1, [2.0]], {}, {"a": 1, 2: (3,), (4, None): [5]}, OrderedDict(b=1, a=2),
        Point(1, Point(jnp.ones(2), "y")), Derived(3), float, bool, jnp.float32, np.int16, Holder, dist.Normal,
    ]  # fmt: skip
    assert repr(round_trip(values)) == repr(values)


def test_nan(round_trip):
    assert np.isnan(round_trip(float("nan")))


@pytest.mark.parametrize(
    "function",
    [jax.nn.silu, jax.nn.swish, jax.nn.relu, jax.nn.gelu, jnp.tanh, jnp.sin, jnp.add, jax.lax.tanh, np.tanh]
    + [jax.scipy.special.erf, optax.sgd, named_function, named_lambda],
)
def test_functions_are_the_very_same(function, path):
    save(path, function)
    assert load(path, trusted=(*HERE, "optax")) is function


def test_public_names(path):
    save(path, [jax.nn.silu, jnp.tanh, dist.Normal, constraints.real, pf.Flow, bj.Affine, optax.ScaleByAdamState])
    names = [node["name"] for node in read(path)["tree"]]
    assert names == ["jax.nn:silu", "jax.nn:tanh", "numpyro.distributions:Normal"] + [
        "numpyro.distributions.constraints:real", "pushforward:Flow", "pushforward.bijections:Affine",
        "optax:ScaleByAdamState",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "dtype", ["bool", "int4", "int8", "uint16", "int64", "float16", "bfloat16", "float8_e4m3fn", "float32", "complex64"]
)
def test_dtypes(dtype, round_trip):
    array = jnp.arange(6).reshape(2, 3).astype(dtype)
    tree = (array, np.asarray(array)[:, ::2], np.asarray(array)[0, 1], array.dtype, array[:0])
    loaded = round_trip(tree)
    assert [type(x) for x in loaded] == [type(x) for x in tree]
    assert loaded[3] == tree[3]
    for x, y in zip(tree, loaded, strict=True):
        if x is not tree[3]:
            assert x.dtype == y.dtype and x.shape == y.shape and np.array_equal(x, y)


def test_arrays_of_numpy_alone(round_trip):
    arrays = [
        np.array(["a", "bc"]), np.array([1.0, 2.0], ">f4"), np.asfortranarray(np.ones((2, 3))), np.float64(0.1),
        np.array([(1, 2.0)], [("i", "i4"), ("x", "f8")]), np.datetime64("2024-01-02"), np.str_("x"),
    ]  # fmt: skip
    for x, y in zip(arrays, round_trip(arrays), strict=True):
        assert type(x) is type(y) and x.dtype == y.dtype and np.array_equal(x, y)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_keys(impl, round_trip):
    keys = jr.split(jr.key(7, impl=impl), 3)
    loaded, raw = round_trip((keys, jr.PRNGKey(3)))
    assert loaded.dtype == keys.dtype and raw.dtype == jnp.uint32
    assert np.array_equal(jr.normal(loaded[1], (4,)), jr.normal(keys[1], (4,)))


def test_weak_types(round_trip):
    """Without weak types, float32 data would give float64 densities, and everything would be compiled again."""
    tree = (jnp.full(3, 0.1), jnp.asarray(2), jnp.full((0, 2), 1j))
    assert all(x.weak_type for x in tree)
    loaded = round_trip(tree)
    assert [x.aval for x in tree] == [x.aval for x in loaded] and np.array_equal(tree[0], loaded[0])
    assert (loaded[0] * jnp.ones(3, "float32")).dtype == jnp.float32


def test_constraints(round_trip):
    singletons = [constraints.real, constraints.positive, constraints.simplex, constraints.dependent]
    assert all(x is y for x, y in zip(singletons, round_trip(singletons), strict=True))
    others = [constraints.interval(0.0, np.ones(2)), constraints.independent(constraints.positive, 1)]
    others += [constraints.greater_than(-1.0), constraints.zero_sum(2), constraints.integer_interval(0, 3)]
    assert round_trip(others) == others


def test_transforms(round_trip):
    given = [dist.biject_to(c) for c in (constraints.simplex, constraints.interval(1.0, 3.0), constraints.positive)]
    given += [given[2].inv, transforms.ComposeTransform([transforms.ExpTransform(), transforms.AffineTransform(1, 2)])]
    assert given[2].inv is given[3]  # a weak reference, which is not saved
    assert round_trip(given) == given


def test_structures(round_trip):
    tree = {"b": (1, None), "a": Point([2], 3), "m": Holder(4)}
    assert round_trip(jax.tree.structure(tree)) == jax.tree.structure(tree)


def test_optimizer_states(round_trip):
    parameters = bj.Triangular(3)
    state = optax.chain(optax.clip(1.0), optax.adam(optax.cosine_decay_schedule(1e-3, 10))).init(parameters)
    loaded = round_trip(state)
    assert jax.tree.structure(loaded) == jax.tree.structure(state)
    assert eqx.tree_equal(loaded, state)


def test_no_constructor_runs(round_trip, monkeypatch):
    def fail(*args, **kwargs):
        raise AssertionError("a constructor ran")

    tree = (bj.Affine(), Derived(2), Holder(1))
    for x in tree:
        monkeypatch.setattr(type(x), "__init__", fail)
    loaded = round_trip(tree)
    assert eqx.tree_equal(tree[0], loaded[0]) and loaded[1:] == tree[1:]


def test_numpy_reads_the_file_without_pickle(path):
    flow = pf.flows.realnvp(2, key=KEY, num_layers=2, hidden=(4,))
    save(path, flow)
    with np.load(path, allow_pickle=False) as archive:
        content = {name: archive[name] for name in archive.files}
    document = json.loads(content.pop(DOCUMENT))
    assert document["format"] == 1
    assert set(document["versions"]) == {"pushforward", "jax", "equinox", "numpyro"}
    assert len(content) >= len(jax.tree.leaves(eqx.filter(flow, eqx.is_array)))
    assert all(isinstance(array, np.ndarray) for array in content.values())


def run_python(code, *args):
    env = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_ENABLE_X64": "1"}
    return subprocess.run([sys.executable, "-c", code, *map(str, args)], env=env, capture_output=True, text=True)


def test_fresh_process(path):
    """Loading needs only the library's code, and imports only trusted modules."""
    flow = shift_bijection(pf.flows.maf(3, key=KEY, num_layers=2, hidden=(8,), base=DISTRIBUTIONS["mixture"]))
    save(path, flow)
    code = (
        "import sys, jax.numpy as jnp; from pushforward.serialization import load; "
        "print([float(v) for v in load(sys.argv[1]).log_prob(jnp.ones((2, 3)))])"
    )
    result = run_python(code, path)
    assert result.returncode == 0, result.stderr
    assert np.allclose(json.loads(result.stdout), flow.log_prob(jnp.ones((2, 3))), rtol=1e-12)


def test_replaces_at_once_and_leaves_nothing_on_failure(path, monkeypatch):
    save(path, "first")
    save(path, "second")
    with pytest.raises(ValueError):
        save(path, lambda: None)
    monkeypatch.setattr(np.lib.format, "write_array", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(path, jnp.ones(3))
    assert load(path) == "second"
    assert os.listdir(path.parent) == [path.name]


def test_path_is_taken_as_it_is(tmp_path):
    for name in ("plain", "x.flow", "y.npz"):
        save(str(tmp_path / name), name)
        assert load(str(tmp_path / name)) == name
    assert sorted(os.listdir(tmp_path)) == ["plain", "x.flow", "y.npz"]


def closure():
    return lambda x: x


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (Holder({"a": [0, lambda x: x]}), [".content['a'][1]", "<lambda>", "top level of a module", "equinox.Module"]),
        (Holder(Point(closure(), 1)), [".content.x", "closure.<locals>"]),
        (Holder(pf.Flow(DISTRIBUTIONS["independent"], bj.Identity((3,))).log_prob), [".content", "method"]),
        (lambda x: x, ["the tree", "<lambda>"]),
        ({"s": {1, 2}}, ["['s']", "builtins.set", "tuples, lists or dicts"]),
        ((np.array([object()]),), ["[0]", "numpy.ndarray"]),
        (Holder(object()), [".content", "builtins.object"]),
        (Holder(optax.adam(1e-3)), [".content.init", "cannot be imported"]),
    ],
)
def test_what_cannot_be_saved(tree, words, path):
    with pytest.raises(ValueError, match="cannot save") as error:
        save(path, tree)
    assert all(word in str(error.value) for word in words), error.value
    assert not path.exists()


def test_an_activation_by_lambda_is_named_by_its_path(path):
    flow = pf.flows.realnvp(2, key=KEY, num_layers=1, activation=lambda x: jnp.tanh(x))
    with pytest.raises(ValueError, match=r"cannot save \.bijection\.stacked\..*\.activation: .*<lambda>"):
        save(path, flow)


def test_local_class(path):
    class Inner(eqx.Module):
        x: int

    with pytest.raises(ValueError, match=r"cannot save \[1\]: .*Inner cannot be imported"):
        save(path, [0, Inner(1)])


def read(path):
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(DOCUMENT))


def write(path, tree, **changes):
    """Write a file with the given description, as an attacker or another version might."""
    document = {"format": 1, "versions": {"pushforward": "0.0.1"}, "tree": tree} | changes
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(DOCUMENT, json.dumps(document))


def test_missing_file(path):
    with pytest.raises(FileNotFoundError, match=str(path)):
        load(path)


def test_files_of_others(path):
    path.write_bytes(b"not a zip")
    with pytest.raises(ValueError, match=f"{path} is not a file of pushforward.save"):
        load(path)
    np.savez(path.open("wb"), a=np.ones(3))
    with pytest.raises(ValueError, match=f"{path} is not a file of pushforward.save"):
        load(path)


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.9])
def test_truncated(keep, path):
    save(path, pf.flows.realnvp(2, key=KEY, num_layers=1))
    data = path.read_bytes()
    path.write_bytes(data[: int(keep * len(data))])
    with pytest.raises(ValueError, match=f"{path} is not a file.*truncated or damaged"):
        load(path)


def test_damaged(path):
    save(path, jnp.zeros(1000))
    data = bytearray(path.read_bytes())
    data[-2000] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match="truncated or damaged"):
        load(path)


def test_newer_format(path):
    write(path, None, format=2)
    with pytest.raises(ValueError, match=f"{path} .saved with pushforward 0.0.1. has format 2.*upgrade"):
        load(path)


def test_unknown_kind(path):
    write(path, {"kind": "pickle"})
    with pytest.raises(ValueError, match=f"{path}.*cannot read.*pickle"):
        load(path)


def test_users_code_must_be_trusted(path):
    save(path, Holder(named_function))
    with pytest.raises(ValueError, match=rf"{__name__}:Holder.*trusted=\('{__name__}',\)"):
        load(path)
    assert load(path, trusted=HERE) == Holder(named_function)
    assert load(path, trusted=__name__) == Holder(named_function)


def test_a_package_stands_for_its_modules(path, monkeypatch):
    module = types.ModuleType("some_package.models")
    monkeypatch.setitem(sys.modules, "some_package", types.ModuleType("some_package"))
    monkeypatch.setitem(sys.modules, "some_package.models", module)
    exec("def f(x): return x", vars(module))
    save(path, module.f)
    assert load(path, trusted=("some_package",)) is module.f
    for others in ((), ("some",), ("some_package.models.deeper",)):
        with pytest.raises(ValueError, match="some_package.models:f"):
            load(path, trusted=others)


@pytest.mark.parametrize(
    "name",
    [
        "os:system", "subprocess:run", "builtins:eval", "builtins:exec", "builtins:open", "__main__:anything",
        "numpyfake:f", "numpy:os", "numpy:load", "numpy:memmap", "numpy.testing:rundocs", "numpy.f2py.__main__:main",
        "jax.numpy:load", "jax.numpy:save", "jax:config", "equinox:Partial", "equinox.nn:Lambda.__init__",
        "pushforward.serialization:os", "pushforward.serialization:Path", "pushforward.serialization:importlib",
        "pushforward.serialization:OrderedDict", "pushforward.serialization:save", "pushforward.cli:main",
    ],
)  # fmt: skip
def test_names_out_of_bounds(name, path):
    for node in ({"kind": "name", "name": name}, {"kind": "object", "class": name, "fields": {}}):
        write(path, node)
        with pytest.raises(ValueError, match=f"{path}") as error:
            load(path)
        assert name in str(error.value)
    assert "numpy.f2py.__main__" not in sys.modules


@pytest.mark.parametrize("name", ["pushforward:Flow.sample", "jax.nn:silu", "numpy:float64", "builtins:int"])
def test_only_classes_of_data_are_filled(name, path):
    write(path, {"kind": "object", "class": name, "fields": {}})
    with pytest.raises(ValueError, match="not a data class|does not exist"):
        load(path)


@pytest.mark.parametrize("name", ["pushforward.gone:Flow", "pushforward:Gone", "jax.nn:gone"])
def test_names_that_no_longer_exist(name, path):
    write(path, {"kind": "name", "name": name})
    with pytest.raises(ValueError, match=f"needs {name}, which does not exist"):
        load(path)


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_names_of_earlier_versions(old, new, path):
    write(path, {"kind": "name", "name": old})
    module, _, name = new.partition(":")
    assert load(path, trusted=("pushforward",)) is getattr(importlib.import_module(module), name)


def as_object(path, name):
    """Turn the dict of a file into the fields of a class."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    document = json.loads(content[DOCUMENT])
    del document["digest"]  # files of that version had none
    document["tree"] = {"kind": "object", "class": name, "fields": dict(document["tree"]["items"])}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (content | {DOCUMENT: json.dumps(document)}).items():
            archive.writestr(name, data)


def test_densities_of_version_0_1(path):
    """They had a flow and names alone, under another class."""
    flow = pf.flows.maf(2, num_layers=1, hidden=(4,), key=KEY)
    save(path, {"flow": flow, "columns": ("a", "b"), "given": (), "grids": (None, (0.0, 1.0))})
    as_object(path, "pushforward:NamedFlow")
    density = load(path)
    assert density.columns == ("a", "b") and density.grids == (None, (0.0, 1.0)) and str(density.summary())
    np.testing.assert_array_equal(density.log_prob(np.ones((3, 2))), flow.log_prob(jnp.ones((3, 2))))


def test_conditions_of_version_0_1(path):
    """The condition of a posterior of one data set was an array."""
    bijection = CATALOGUE["at condition"](2, KEY)
    save(path, {"bijection": bijection.bijection, "condition": bijection.condition.value})
    as_object(path, "pushforward.posterior.amortized:AtCondition")
    assert eqx.tree_equal(bijection, load(path))


def change_fields(path, old, new):
    document = read(path)
    text = json.dumps(document["tree"])
    assert old in text
    write(path, json.loads(text.replace(old, new)))


@pytest.mark.parametrize(
    ("x", "field"),
    [
        (Holder(1), "content"),
        (Point(1, 2), "x"),
        (dist.Normal(0.0, 1.0), "loc"),
        (constraints.interval(0.0, 1.0), "upper_bound"),
        (transforms.AffineTransform(0.0, 1.0), "scale"),
    ],
)
def test_changed_fields(x, field, path):
    save(path, x)
    change_fields(path, f'"{field}"', '"former"')
    with pytest.raises(ValueError, match=rf"{type(x).__name__}, whose .* missing .*\['{field}'\]") as error:
        load(path, trusted=HERE)
    # The fields of constraints and transforms are known only if all values are set.
    assert "unknown to the class are ['former']" in str(error.value) or isinstance(
        x, constraints.Constraint | transforms.Transform
    )


def test_attributes_of_the_class_are_out_of_reach(path):
    save(path, Holder(1))
    change_fields(path, '"label"', '"__class__"')
    with pytest.raises(ValueError, match="unknown to the class are .*__class__"):
        load(path, trusted=HERE)


def test_new_fields_take_their_defaults(path):
    save(path, Holder(1, "label"))
    document = read(path)
    del document["tree"]["fields"]["label"]
    write(path, document["tree"])
    loaded = load(path, trusted=HERE)
    assert loaded == Holder(1) and vars(loaded) == vars(Holder(1))


def test_64_bit_arrays_without_64_bit_mode(path, recwarn):
    tree = (jnp.array([0.1, 0.2]), jnp.arange(3), np.array([0.1]), jnp.ones(2, "float32"), 1 + 1j * jnp.ones(1))
    save(path, tree)
    assert [x.dtype for x in load(path)] == [x.dtype for x in tree] and not recwarn
    expected = pytest.warns(UserWarning, match=f"{path} holds 64-bit arrays.*jax_enable_x64")
    with jax.enable_x64(False), expected as caught:
        loaded = load(path)
    assert len(caught) == 1
    # In a process where nothing wraps the library's functions: the warning names the line that loads.
    code = "import sys, jax, pushforward as pf; jax.config.update('jax_enable_x64', False); pf.load(sys.argv[1])"
    assert run_python(code, path).stderr.startswith("<string>:1: UserWarning")
    assert [str(x.dtype) for x in loaded] == ["float32", "int32", "float64", "float32", "complex64"]
    assert np.array_equal(loaded[0], np.array([0.1, 0.2], "float32"))


def test_32_bit_arrays_stay_so_in_64_bit_mode(round_trip):
    with jax.enable_x64(False):
        flow = pf.flows.nsf(2, key=KEY, num_layers=1, hidden=(4,))
    loaded = round_trip(flow)
    assert {str(a.dtype) for a in jax.tree.leaves(eqx.filter(loaded, eqx.is_inexact_array))} >= {"float32"}
    assert eqx.tree_equal(flow.bijection, loaded.bijection)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_bijection(name, round_trip):
    bijection = perturb(CATALOGUE[name](3, KEY), jr.key(1))
    assert eqx.tree_equal(bijection, round_trip(bijection))


def test_solver_of_an_equation(round_trip):
    bijection = pf.bijections.Continuous(2, (4,), key=KEY, solver=diffrax.Tsit5())
    assert eqx.tree_equal(bijection, round_trip(bijection))


def test_arguments_of_wrong_types(path):
    save(path, 1)
    assert load(io.BytesIO(path.read_bytes())) == 1
    with path.open("rb") as file:
        file.read()
        assert load(file) == 1
    for wrong in (None, 3, [path], io.StringIO("text"), object()):
        with pytest.raises(TypeError, match="path must be a path, or a file object"):
            load(wrong)
    for trusted in (None, 3, [None], {"os": 1}):
        with pytest.raises(TypeError, match="trusted.* must be a (string|sequence)"):
            load(path, trusted=trusted)


def test_a_tree_that_holds_itself(path):
    tree = []
    tree.append(tree)
    with pytest.raises(ValueError, match="nested too deeply, or holds itself"):
        save(path, tree)

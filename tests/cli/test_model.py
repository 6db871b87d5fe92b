"""The arguments of a model from JSON, tables and arrays, by name."""

import argparse
from pathlib import Path

import jax
import numpy as np
import numpyro
import pytest

from cli_cases import said
from pushforward.cli import main
from pushforward.cli.model import check_arguments, check_precision, load_data, load_model
from pushforward.cli.terminal import Parser, UserError

MODEL = """
import jax.numpy as jnp, numpyro, numpyro.distributions as dist

def groups(y, group, num_groups, width=5.0):
    with numpyro.plate("groups", num_groups):
        mu = numpyro.sample("mu", dist.Normal(0, width))
    numpyro.sample("y", dist.Normal(mu[group], 1.0), obs=y)

def anything(**columns):
    pass
"""
TABLE = "name,group,y\nfirst,0,1\nsecond,1,2.5\nthird,1,0\n"


@pytest.fixture
def models(files):
    (files / "models.py").write_text(MODEL)
    (files / "rows.csv").write_text(TABLE)
    (files / "sizes.json").write_text('{"num_groups": 2}')
    return files


def options(*arguments):
    parser = Parser()
    parser.add_argument("--data", type=Path, action="append", default=[])
    parser.add_argument("--columns", nargs="+")
    found = parser.parse_args(arguments)
    return argparse.Namespace(model="models.py:groups", **vars(found))


def test_columns_and_json_are_arguments(models):
    """Indices are whole, so that the model can use them."""
    chosen = options("--data", "rows.csv", "--data", "sizes.json", "--columns", "y", "group")
    data, model = load_data(chosen), load_model("models.py:groups")
    assert data["group"].dtype.kind == "i" and data["y"].tolist() == [1.0, 2.5, 0.0] and data["num_groups"] == 2
    check_arguments(model, data, chosen)
    trace = numpyro.handlers.trace(numpyro.handlers.seed(model, 0)).get_trace(**data)
    assert trace["y"]["fn"].batch_shape == (3,)
    np.savez("arrays.npz", **data)
    assert load_data(options("--data", "arrays.npz"))["group"].tolist() == [0, 1, 1]
    check_arguments(load_model("models.py:anything"), data, chosen)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "rows.csv"], "row 0, column 0 (name): 'first' is not a number"),
        (["--data", "nowhere.csv"], "no file nowhere.csv"),
        (["--data", "nan.csv"], "nan.csv: y holds NaN"),
        (
            ["--data", "data.json", "--columns", "y"],
            "columns of one table, but --data names 0 tables",
        ),
        (["--data", "rows.csv", "--columns", "z"], "no column z; it has name, group, y"),
        (
            ["--data", "data.json", "--data", "rows.csv", "--columns", "y"],
            "rows.csv has y, which another file",
        ),
        (["--data", "text.npz"], "text.npz: y must be an array of numbers"),
        (["--data", "."], "cannot be read"),
    ],
)
def test_files_that_cannot_be_arguments(models, arguments, words):
    (models / "nan.csv").write_text("y\n1\nnan\n")
    np.savez("text.npz", y=np.array(["a"]))
    with pytest.raises(UserError) as raised:
        load_data(options(*arguments))
    assert words in str(raised.value)


def test_columns_that_match_no_argument(models, capsys):
    (models / "wide.csv").write_text("group,y,age,mass\n0,1,2,3\n1,1,2,3\n")
    command = ["fit", "models.py:groups", "--data", "sizes.json", "--out", "out"]
    assert main([*command, "--data", "wide.csv"]) == 2
    assert "has the entries age, mass, which the model models.py:groups does not take" in said(capsys)
    assert main([*command[:2], *command[4:], "--data", "wide.csv"]) == 2
    assert "needs the arguments num_groups, which wide.csv does not have; it has group, y, age, mass" in said(capsys)
    (models / "models.py").write_text("def groups(group, y):\n    pass\n")
    assert main([*command[:2], *command[4:], "--data", "wide.csv"]) == 2
    message = said(capsys)
    assert "wide.csv has the columns age, mass, which the model" in message and "takes group, y." in message
    assert "--columns chooses" in message and not (models / "out").exists()


def test_values_that_do_not_fit_into_the_precision_are_named():
    data = {"y": np.array([[1, 2], [3_000_000_000, 4]]), "z": {"x": np.array([1.0, 3e39])}, "n": 3, "how": "text"}
    with jax.enable_x64(True):
        check_precision(data)
    with jax.enable_x64(False):
        check_precision({"n": 3, "how": "text", "x": np.array([0.1, 1e-50]), "b": np.array([True])})
        with pytest.raises(UserError, match=r"y\[1\]\[0\] is 3000000000, which does not fit into int32; .* --float32"):
            check_precision(data)
        with pytest.raises(UserError, match=r"z.x\[1\] is 3e\+39, which does not fit into float32"):
            check_precision({"z": data["z"]})
        with pytest.raises(UserError, match="m is 3000000000, "):
            check_precision({"m": 3_000_000_000})


@pytest.mark.parametrize("command", [["fit"], ["diagnose", "posterior.flow"]], ids=lambda command: command[0])
def test_commands_refuse_them(command, models, capsys):
    (models / "large.json").write_text('{"y": [3000000000, 5], "group": [0, 1], "num_groups": 2}')
    with jax.enable_x64(False):
        assert main([*command, "models.py:groups", "--data", "large.json", "--float32", "--out", "out"]) == 2
    assert "y[0] is 3000000000, which does not fit into int32" in said(capsys)

"""The command line for densities: files of every kind in, a report out, draws from anything that was saved."""

import json

import numpy as np
import pytest

from cli_cases import ctrl_c_in_training, said
from pushforward.cli import main
from pushforward.density.data import tables
from table_cases import NAMES


def test_density_and_sample(folder, capsys):
    supports = ["--positive", "size", "--discrete", "count", "--circular", "wind", "360"]
    assert main(["density", "data.csv", "--out", "out/deep", *supports, "--epochs", "2"]) == 0
    printed = said(capsys)
    for words in ("flow -", "Gaussian -", "mixture of Gaussians -", "calibration", "wind"):
        assert words in printed
    out = folder / "out" / "deep"
    assert sorted(p.name for p in out.iterdir()) == ["density.flow", "report.html", "summary.json"]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["columns"] == NAMES and summary["test_rows"] == 30
    page = (out / "report.html").read_text()
    assert "pushforward density data.csv --out out/deep --positive size" in page

    drawing = ["sample", "out/deep/density.flow", "--num", "50", "--out", "draws.csv"]
    assert main([*drawing, "--quiet"]) == 0 and said(capsys) == ""
    assert main([*drawing, "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)["results"]
    assert result["written"] == ["draws.csv"] and list(result["summary"]["columns"]) == NAMES
    assert main([*drawing[:-2], "--json"]) == 2 and "--json needs --out" in said(capsys)
    assert main(drawing) == 0
    assert "wrote 50 draws of size, count, wind, noise" in said(capsys)
    draws = tables.read(folder / "draws.csv")
    assert draws.names == NAMES and draws.values.shape == (50, 4)
    assert (draws.values[:, 0] > 0).all() and (draws.values[:, 1] % 1 == 0).all()
    assert ((draws.values[:, 2] >= 0) & (draws.values[:, 2] <= 360)).all()


def test_bounds_that_are_negative_in_any_notation(folder, capsys):
    for lower in ("-1e3", "-1E+3", "-inf", "-.5e4"):
        arguments = ["--columns", "noise", "--bounds", "noise", lower, "-1e-3", "--out", "out"]
        assert main(["density", "data.csv", *arguments]) == 2
        message = said(capsys)
        assert "is not between" in message and f"{float(lower):g} and -0.001" in message


def test_missing_values_are_imputed_on_request(folder, capsys):
    rows = np.random.default_rng(0).normal(size=(120, 2))
    rows[:, 1] += rows[:, 0]
    cells = [[f"{value:.4f}" for value in row] for row in rows]
    for i in range(0, 40, 4):
        cells[i][i % 8 // 4] = ("", "NA")[i % 8 // 4]
    (folder / "gaps.csv").write_text("a,b\n" + "\n".join(map(",".join, cells)))
    arguments = ["density", "gaps.csv", "--out", "out", "--epochs", "1", "--quiet"]
    assert main(arguments) == 2 and "gaps.csv" in said(capsys)
    assert main([*arguments, "--missing", "impute"]) == 0
    summary = json.loads((folder / "out" / "summary.json").read_text())
    assert summary["rows"] == 120 and summary["test_rows"] == 11
    assert summary["fit"]["missing values"] == 10


@pytest.mark.conformance
def test_conditional_density_and_sample(folder, capsys):
    arguments = ["--columns", "noise", "--given", "size", "--epochs", "1", "--quiet"]
    assert main(["density", "data.csv", "--out", "out", *arguments]) == 0
    capsys.readouterr()
    assert main(["sample", "out/density.flow", "--num", "3", "--given", "size=2.5"]) == 0
    assert capsys.readouterr().out.splitlines()[0] == "noise"
    assert main(["sample", "out/density.flow"]) == 2
    assert "needs values of size" in said(capsys)
    assert main(["sample", "out/density.flow", "--given", "size=2", "noise=1"]) == 2
    assert "is not conditional on noise; it is conditional on size" in said(capsys)


SMALL = ["--columns", "noise", "size", "--epochs", "8"]


def test_a_failed_report_does_not_lose_the_fit(folder, capsys, monkeypatch):
    def fail(*arguments):
        raise RuntimeError("no ink")

    monkeypatch.setattr("pushforward.density.result.density_page", fail)
    assert main(["density", "data.csv", "--out", "out", *SMALL]) == 1
    message = said(capsys)
    assert "report.html was not written: RuntimeError: no ink" in message
    assert sorted(p.name for p in (folder / "out").iterdir()) == ["density.flow", "summary.json"]
    assert main(["sample", "out/density.flow", "--num", "3"]) == 0


def test_ctrl_c_saves_the_best_and_the_same_command_continues(folder, capsys):
    assert main(["density", "data.csv", "--out", "whole", *SMALL]) == 0
    with ctrl_c_in_training(call=4):
        assert main(["density", "data.csv", "--out", "out", *SMALL]) == 130
    assert "the same command continues the training from its checkpoint in out" in " ".join(
        capsys.readouterr().out.split()
    )
    files = {"density.flow", "report.html", "summary.json"}
    assert {p.name for p in (folder / "out").iterdir()} == files | {"checkpoint"}
    interrupted = json.loads((folder / "out" / "summary.json").read_text())
    assert "the fit was interrupted" in interrupted["warnings"][-1]
    assert main(["density", "data.csv", "--out", "out", *SMALL, "--held-out", "0.2"]) == 2
    assert "checkpoint of another fit" in said(capsys)
    assert main(["density", "data.csv", "--out", "out", *SMALL]) == 0
    assert {p.name for p in (folder / "out").iterdir()} == files
    summaries = [json.loads((folder / name / "summary.json").read_text()) for name in ("whole", "out")]
    assert summaries[0]["scores"] == summaries[1]["scores"] and summaries[0]["steps"] == summaries[1]["steps"]


BAD = {
    "text.csv": "a,b\n1,2\n3,four\n",
    "missing.csv": "a,b\n1,2\n3,\n",
    "ragged.csv": "a,b\n1,2\n3\n",
    "nan.csv": "a,b\n" + "\n".join(f"{i},{i**2}" for i in range(20)) + "\nnan,1\n",
    "one.csv": "a,b\n1,2\n",
    "few.csv": "a,b,c\n1,2,3\n2,1,5\n",
    "constant.csv": "a,b\n1,2\n1,3\n1,4\n",
    "twins.csv": "a,b\n1,1\n2,2\n5,5\n",
    "short.csv": "a,b\n" + "\n".join(f"{i},{i**2}" for i in range(20)),
    "empty.csv": "",
    "names.csv": "a,b\n",
}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.csv"], "no file nowhere.csv"),
        (["text.csv"], "row 1, column 1 (b): 'four' is not a number"),
        (["missing.csv"], "row 1, column 1 (b): the value is missing"),
        (["ragged.csv"], "row 1 has 1 cells, but there are 2 columns"),
        (["nan.csv"], "the first in row 20, column 0 (a)"),
        (["one.csv"], "at least two rows"),
        (["few.csv"], "at least 10 are needed"),
        (["constant.csv"], "column 0 (a) of x is constant"),
        (["twins.csv"], "column 1 (b) of x equals column 0 (a)"),
        (["short.csv"], "at least 10 are needed"),
        (["empty.csv"], "no rows"),
        (["names.csv"], "no rows"),
        (["data.csv", "--columns", "size", "weight"], "no column weight; it has size, count, wind, noise"),
        (["data.csv", "--given", "weight"], "no column weight"),
        (["data.csv", "--given", *NAMES], "no column remains"),
        (["data.csv", "--positive", "noise"], "not inside their support, the first in row"),
        (["data.csv", "--positive", "weight"], "no column weight"),
        (["data.csv", "--positive", "size", "--bounds", "size", "0", "9"], "has two supports"),
        (["data.csv", "--bounds", "size", "0", "wide"], "takes numbers, but got 'wide'"),
        (["data.csv", "--circular", "wind", "-1"], "positive, finite period"),
        (["data.csv", "--discrete", "noise"], "is not discrete"),
        (["data.csv", "--held-out", "1"], "--held-out"),
        (["data.csv", "--epochs", "0"], "--epochs"),
    ],
)
def test_errors_are_one_paragraph_and_leave_nothing(folder, capsys, arguments, words):
    for name, text in BAD.items():
        (folder / name).write_text(text)
    assert main(["density", *arguments, "--out", "out", "--quiet"]) == 2
    message = said(capsys)
    assert message.startswith("pushforward: error: ") and words in message
    assert not (folder / "out").exists()

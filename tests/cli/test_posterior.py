import json

import numpy as np
import pytest

import pushforward as pf
from cli_cases import ctrl_c_in_training, said
from products import few
from pushforward.cli import main


def test_fit_writes_everything(files, capsys):
    wanted = ["--num-draws", "500", "--log-likelihood", "--predictive"]
    assert main(["fit", "models.py:normal", "--data", "data.json", "--out", "out/deep", "--json", *wanted]) == 0
    captured = capsys.readouterr()
    printed = captured.err
    assert "posterior.nc: 500 draws, 0.0 MB before compression (16,000 bytes)" in printed
    assert printed.count("verdict: good") == 1
    assert "mu" in printed
    out = files / "out" / "deep"
    assert sorted(p.name for p in out.iterdir()) == [
        "marginals.png", "pairs.png", "posterior.flow", "posterior.nc", "report.html", "summary.json", "training.png",
    ]  # fmt: skip
    printed = json.loads(captured.out)
    (result,) = printed.pop("results")
    assert printed == {"command": "fit", "exit_code": 0}
    assert result["summary"] == json.loads((out / "summary.json").read_text())
    assert result["name"] == "models.py:normal" and result["folder"] == "out/deep" and result["failures"] == []
    assert set(result["written"]) == {path.name for path in out.iterdir()}
    assert result["summary"]["verdict"] == "good" and result["summary"]["diagnostics"]["ess_fraction"] > 0.9
    assert result["summary"]["parameters"]["mu"]["mean"] == pytest.approx(6 / (3 + 1 / 25), abs=0.02)
    page = (out / "report.html").read_text()
    assert "Verdict: good" in page and "<td>mu" in page and "pushforward fit models.py:normal" in page
    assert "the NumPyro model normal" in page and "pushforward sample posterior.flow" in page
    loaded = pf.load(out / "posterior.flow")
    # The posterior of a normal mean is known.
    precision = 3 + 1 / 25
    assert np.mean(loaded.target.constrain(loaded.pool[0])["mu"]) == pytest.approx(float(loaded.pool[0, 0]))
    assert float(loaded.pool.mean()) == pytest.approx(6 / precision, abs=0.02)
    assert float(loaded.pool.std()) == pytest.approx(precision**-0.5, rel=0.02)

    import arviz

    data = arviz.from_netcdf(str(out / "posterior.nc")) if hasattr(arviz, "from_netcdf") else None
    if data is not None:
        assert data["posterior"].attrs["verdict"] == "good"
        assert data["log_likelihood"]["y"].shape == data["posterior_predictive"]["y"].shape == (1, 500, 3)


def test_given_draws_are_compared_with_the_fit(files, capsys):
    import arviz

    sd = (3 + 1 / 25) ** -0.5
    draws = 6 * sd**2 + sd * np.random.default_rng(0).normal(size=(4, 250))
    arviz.convert_to_inference_data({"mu": draws}).to_netcdf("draws.nc")
    command = ["fit", "models.py:normal", "--data", "data.json", "--out", "out", "--draws"]
    assert main([*command, "draws.nc"]) == 0
    assert "The fit agrees with the 1,000 given draws" in said(capsys)
    assert json.loads((files / "out" / "summary.json").read_text())["agreement"]["verdict"] == "agree"
    assert main([*command, "nowhere.nc", "--force"]) == 2
    assert "there is no file nowhere.nc of draws" in said(capsys)
    # The option was the number of draws before.
    assert main([*command, "-3", "--force"]) == 2
    assert "--num-draws must be a positive number of draws, but is -3" in said(capsys)


@pytest.mark.parametrize("failing", few(["report", "plot", "to_arviz"], "report"))
def test_a_fit_outlives_its_report(files, capsys, monkeypatch, failing):
    def fail(*args, **kwargs):
        raise RuntimeError("out of ink")

    monkeypatch.setattr(pf.Posterior, failing, fail)
    assert main(["fit", "models.py:normal", "--data", "data.json", "--out", "out"]) == 1
    captured = capsys.readouterr()
    assert "was not written: RuntimeError: out of ink" in captured.err and "verdict: good" in captured.out
    assert pf.load(files / "out" / "posterior.flow").diagnostics.verdict == "good"
    assert (files / "out" / "posterior.nc").exists() == (failing != "to_arviz")
    assert not [path for path in (files / "out").iterdir() if path.name.startswith(".")]


def test_ctrl_c_ends_the_training_and_everything_is_written(files, capsys):
    with ctrl_c_in_training(call=2, program="advance_quick_compilation"):
        assert main(["fit", "models.py:normal", "--data", "data.json", "--out", "out"]) == 130
    captured = capsys.readouterr()
    assert "warning: the fit was interrupted after" in captured.err and "verdict:" in captured.out
    assert {"posterior.flow", "report.html"} <= {path.name for path in (files / "out").iterdir()}


def test_demo_help_and_version(capsys):
    assert main([]) == 0
    assert "demo" in capsys.readouterr().out
    for arguments in (["--help"], ["fit", "--help"], ["demo", "--help"], ["--version"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere.py:normal", "--data", "data.json"], ["no model file", "nowhere.py"]),
        (["models.py", "--data", "data.json"], ["MODEL.py:NAME"]),
        (["models.py:missing", "--data", "data.json"], ["no function missing", "normal"]),
        (["models.py:constant", "--data", "data.json"], ["no function constant"]),
        (["models.py:normal", "--data", "nowhere.json"], ["no data file", "nowhere.json"]),
        (["models.py:normal"], ["needs the arguments y"]),
        (["models.py:normal", "--data", "invalid.json"], ["not valid JSON", "line 1"]),
        (["models.py:normal", "--data", "list.json"], ["JSON object", "list"]),
        (["models.py:normal", "--data", "unknown.json"], ["entries z", "takes y, width"]),
        (["models.py:normal", "--data", "ragged.json"], ["y", "different lengths"]),
        (["models.py:normal", "--data", "text.json"], ["y must be an array of numbers"]),
        (["models.py:normal", "--data", "nan.json"], ["y holds NaN"]),
        (["models.py:normal", "--data", "nan_scalar.json"], ["width holds NaN"]),
        (["models.py:normal", "--data", "nested.json"], ["y.inner must be an array of numbers"]),
        (["models.py:discrete", "--data", "data.json"], ["which", "discrete"]),
        (["models.py:broken", "--data", "data.json"], ["RuntimeError", "out of cheese"]),
        (["models.py:unlikely", "--data", "data.json"], ["NaN or infinite"]),
        (["broken.py:normal", "--data", "data.json"], ["broken.py cannot be imported", "SyntaxError"]),
        (["models.py:normal", "--data", "data.json", "--budget", "0"], ["--budget"]),
        (["models.py:normal", "--data", "data.json", "--devices", "999"], ["--devices must be all, or a number"]),
    ],
)
def test_errors_are_one_paragraph_and_leave_nothing(files, capsys, arguments, words):
    (files / "invalid.json").write_text('{"y": [1.0,')
    (files / "list.json").write_text("[1, 2]")
    (files / "unknown.json").write_text('{"y": [1.0], "z": 2}')
    (files / "ragged.json").write_text('{"y": [[1.0], [1.0, 2.0]]}')
    (files / "text.json").write_text('{"y": ["a", null]}')
    (files / "nan.json").write_text('{"y": [1.0, NaN]}')
    (files / "nan_scalar.json").write_text('{"y": [1.0], "width": Infinity}')
    (files / "nested.json").write_text('{"y": {"inner": [[null]]}}')
    (files / "broken.py").write_text("def normal(:\n")
    assert main(["fit", *arguments, "--out", "out", "--quiet"]) == 2
    captured = capsys.readouterr()
    message = " ".join(captured.err.split())
    assert message.startswith("pushforward: error: ")
    assert "Traceback" not in captured.err
    assert "\n\n" not in captured.err.strip()
    for word in words:
        assert word in message
    assert not (files / "out").exists()

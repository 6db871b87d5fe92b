"""`pushforward vae`."""

import json

import jax
import numpy as np
import pytest

import pushforward as pf
from cli_cases import ctrl_c_in_training
from pushforward.cli import main
from vae_cases import SHAPE, images


def interrupt(*_):
    raise KeyboardInterrupt


def test_command_line(tmp_path, capsys, monkeypatch):
    """It trains on a file, goes on from its checkpoint, and says what it found; pictures come last."""
    file, out = tmp_path / "images.npz", tmp_path / "out"
    np.savez(file, train=(255 * images(50)).astype(np.uint8))
    command = ["vae", "--data", str(file), "--out", str(out), "--posterior", "planar", "--prior", "normal"]
    command += ["--latent", "2", "--layers", "1", "--importance", "20", "--warmup", "1"]
    with jax.enable_x64(False):
        with monkeypatch.context() as patch:
            patch.setattr("pushforward.vae.pictures.all_pictures", interrupt)
            assert main([*command, "--epochs", "2"]) == 1
        assert "there are no pictures: interrupted" in capsys.readouterr().err
        assert {path.name for path in out.iterdir()} == {"model.vae", "checkpoint.vae", "summary.json", "report.html"}
        with ctrl_c_in_training(call=2):
            assert main([*command, "--epochs", "4"]) == 130
        captured = capsys.readouterr()
        assert "warning: the fit was interrupted" in captured.err and "continues the training" in captured.out
        assert "NLL" in captured.out
        assert main([*command, "--epochs", "4"]) == 0
    assert "4 epochs" in capsys.readouterr().out
    names = {"model.vae", "summary.json", "report.html", "reconstructions.png", "samples.png"}
    assert {path.name for path in out.iterdir()} == names | {"traversals.png", "interpolations.png"}
    assert json.loads((out / "summary.json").read_text())["test images"] == 5
    assert pf.load(out / "model.vae").shape == SHAPE


def test_command_line_says_which_axis_is_that_of_channels(tmp_path, capsys):
    """Color images, whose pictures are in color; the option settles what the shape does not say."""
    from matplotlib.image import imread

    x = np.random.default_rng(0).random((24, 3, 4, 3))
    np.save(tmp_path / "images.npy", 0.5 * x * [1, 0, 0])
    command = ["vae", "--data", str(tmp_path / "images.npy"), "--out", str(tmp_path / "out"), "--posterior", "gaussian"]
    command += ["--prior", "normal", "--latent", "1", "--importance", "2", "--epochs", "1", "--likelihood", "gaussian"]
    assert main([*command, "--quiet"]) == 2
    assert "give channels=" in " ".join(capsys.readouterr().err.split())
    with jax.enable_x64(False):
        assert main([*command, "--channels", "last"]) == 0
    assert "with channels last" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["channels"] == "last"
    # The first row of pictures: test images, which are red.
    pixels = imread(tmp_path / "out" / "reconstructions.png")
    red, green, blue, *_ = np.moveaxis(pixels[: len(pixels) // 2], -1, 0)
    assert red.max() > 0.1 and green.max() == blue.max() == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--latent", "0"], "--latent must be at least 1"),
        (["--data", "nowhere.npz"], "no file nowhere.npz"),
        (["--data", "two.npz"], 'an array "train"'),
        (["--data", "large.npz"], "pixels must lie in [0, 1]"),
        (["--data", "flat.npz"], '"train" must have shape (n, height, width)'),
        (["--data", "other.npz"], 'images of "test" have shape (4, 3)'),
        (["--data", "nan.npz"], 'the array "test": the images contain 240 pixels'),
        (["--data", "grey.npz", "--likelihood", "categorical", "--levels", "3"], "likelihood with 3 levels"),
    ],
)
def test_command_line_mistakes(options, words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    np.savez("two.npz", a=images(), b=images())
    np.savez("large.npz", a=3 * images())
    np.savez("flat.npz", train=images().reshape(-1, 12))
    np.savez("other.npz", train=images(), test=images().swapaxes(1, 2))
    np.savez("nan.npz", train=images(), test=np.nan * images())
    np.savez("grey.npz", train=images(), test=0.3 * images())
    assert main(["vae", "--out", "out", "--quiet", *options]) == 2
    assert words in " ".join(capsys.readouterr().err.split())

"""What the commands share: the check that an output can be written."""

import os
import stat

import pytest

from pushforward.cli import main


def test_unwritable_folder(files, capsys):
    (files / "file").write_text("in the way")
    assert main(["fit", "models.py:normal", "--data", "data.json", "--out", "file"]) == 2
    assert "output folder file cannot be written" in " ".join(capsys.readouterr().err.split())
    assert main(["fit", "models.py:normal", "--data", "data.json", "--out", "new/deep", "--budget", "0"]) == 2
    assert not (files / "new").exists()
    locked = files / "locked"
    locked.mkdir()
    locked.chmod(stat.S_IRUSR | stat.S_IXUSR)
    if os.access(locked, os.W_OK):
        pytest.skip("this user may write anywhere")
    assert main(["fit", "models.py:normal", "--data", "data.json", "--out", "locked/out"]) == 2

"""Scripts for shells: they complete commands, options and files, and are valid."""

import os
import shutil
import subprocess
import sys

import pytest

from pushforward.cli import main


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_scripts_name_commands_and_options(shell, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--print-completion", shell])
    script = capsys.readouterr().out
    assert stop.value.code == 0
    for word in ("diagnose", "density", "checkpoint", "columns"):
        assert word in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_completes(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["--print-completion", "bash"])
    (tmp_path / "script").write_text(capsys.readouterr().out)
    (tmp_path / "models.py").touch()
    program = """
    source ./script
    complete_words() {
        COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _shtab_pushforward; echo "${COMPREPLY[@]}"
    }
    complete_words pushforward dia
    complete_words pushforward fit --check
    complete_words pushforward fit mod
    """
    done = subprocess.run(["bash", "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["diagnose", "--checkpoint", "models.py"]


def test_a_reader_that_ends_early_is_no_error():
    """Such as `head`, which reads the first lines only."""
    reader, writer = os.pipe()
    os.close(reader)
    program = "import sys; from pushforward.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", program, "--print-completion", "bash"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, check=False)
    os.close(writer)
    assert done.returncode == 141 and not done.stderr

"""Commands keep the files of others in their folders."""

import jax.random as jr
import pytest

import pushforward as pf
from pushforward.cli import main
from pushforward.cli.folders import check_folder, folder
from pushforward.cli.terminal import UserError
from pushforward.reports.page import page

FILES = ("density.flow", "summary.json", "report.html")
OLD_PAGE = """<!doctype html><html lang=en><meta charset=utf-8><title>x</title><style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; }</style>"""


def own_page(path):
    path.write_text(page("title", "density", None, ()))


def own_flow(path):
    pf.flows.linear(2, key=jr.key(0)).save(path)


CASES = [
    ({}, ""),
    ({"notes.txt": "mine"}, ""),
    ({"report.html": own_page, "summary.json": "{}"}, ""),
    ({"report.html": OLD_PAGE, "summary.json": "{}"}, ""),
    ({"density.flow": own_flow, "summary.json": "{}"}, ""),
    ({"report.html": "<html>quarterly figures</html>"}, "report.html"),
    ({"report.html": "<html>quarterly figures</html>", "density.flow": own_flow}, "report.html"),
    ({"density.flow": "a river"}, "density.flow"),
    ({"summary.json": "{}"}, "summary.json"),
]


@pytest.mark.parametrize(("files", "foreign"), CASES)
def test_files_of_others_need_force(files, foreign, tmp_path):
    for name, content in files.items():
        content(tmp_path / name) if callable(content) else (tmp_path / name).write_text(content)
    check_folder(tmp_path, FILES, force=True)
    if not foreign:
        check_folder(tmp_path, FILES, force=False)
        return
    with pytest.raises(UserError, match=f"holds {foreign}, which pushforward did not write.*--force"):
        check_folder(tmp_path, FILES, force=False)


def test_every_command_asks_before_it_works(folder, capsys):
    out = folder / "out"
    for command in (["density", "data.csv"], ["fit", "models.py:x"], ["vae"], ["demo"]):
        place = out / "eight_schools_centered" if command == ["demo"] else out
        place.mkdir(parents=True, exist_ok=True)
        (place / "report.html").write_text("mine")
        assert main([*command, "--out", "out"]) == 2
        assert "--force" in capsys.readouterr().err
        assert (place / "report.html").read_text() == "mine"


def test_new_folders_are_removed_after_an_error(tmp_path):
    with pytest.raises(ZeroDivisionError), folder(tmp_path / "a" / "b"):
        raise ZeroDivisionError
    assert not (tmp_path / "a").exists()
    with folder(tmp_path / "a" / "b"):
        pass
    assert (tmp_path / "a" / "b").is_dir()

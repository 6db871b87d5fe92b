"""Files appear whole or not at all."""

import os

import pytest

from pushforward.files import replacing, write_text


def test_a_file_that_is_not_completed_leaves_the_present_one(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as part:
        part.write_text("half")
        raise RuntimeError("broken")
    assert [*tmp_path.iterdir()] == [path] and path.read_text() == "old"
    with replacing(path) as part:
        assert part.suffix == ".csv" and path.read_text() == "old"
        part.write_text("new")
    assert [*tmp_path.iterdir()] == [path] and path.read_text() == "new"


def test_parts_of_killed_processes_are_removed(tmp_path):
    parts = [tmp_path / f".{name}.{'0123' * 8}.part.csv" for name in ("[a].csv", "a.csv")]
    for file in (*parts, tmp_path / ".[a].csv.swp"):
        file.write_text("part")
        os.utime(file, (0, 0))
    # This one may be of a process that is writing now.
    new = tmp_path / f".[a].csv.{'4567' * 8}.part.csv"
    new.write_text("part")
    write_text(tmp_path / "[a].csv", "new")
    assert {*tmp_path.iterdir()} == {tmp_path / "[a].csv", parts[1], tmp_path / ".[a].csv.swp", new}


def test_text_replaces_what_was_there(tmp_path):
    (tmp_path / "page").write_text("old")
    write_text(tmp_path / "page", "né")
    assert (tmp_path / "page").read_text(encoding="utf-8") == "né"
    assert [path.name for path in tmp_path.iterdir()] == ["page"]


def test_a_device_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with replacing(tmp_path / "pipe") as part:
        assert part == tmp_path / "pipe"
    assert (tmp_path / "pipe").is_fifo()

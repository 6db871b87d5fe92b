"""Files appear whole or not at all."""

import errno
import os
import stat

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


def test_links_and_modes_are_kept(tmp_path):
    (tmp_path / "store").mkdir()
    target, link, dangling = tmp_path / "store" / "real", tmp_path / "link.csv", tmp_path / "dangling"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to("store/real")
    dangling.symlink_to(tmp_path / "store" / "new")
    with replacing(link) as part:
        assert part.suffix == ".csv"
        part.write_text("new")
    write_text(dangling, "first")
    assert link.is_symlink() and target.read_text() == "new" and stat.S_IMODE(target.stat().st_mode) == 0o640
    assert dangling.is_symlink() and (tmp_path / "store" / "new").read_text() == "first"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["dangling", "link.csv", "new", "real", "store"]


def test_a_circle_of_links_is_an_error(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError) as error:
        write_text(tmp_path / "a", "text")
    assert error.value.errno == errno.ELOOP and (tmp_path / "a").is_symlink()


def test_a_file_that_may_not_be_written_is_kept(tmp_path, monkeypatch):
    write_text(tmp_path / "fixed", "old")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(PermissionError, match="fixed"):
        write_text(tmp_path / "fixed", "new")
    assert (tmp_path / "fixed").read_text() == "old"


def test_errors_name_the_file(tmp_path):
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match="No space left on device: .*table.csv'$"), replacing(tmp_path / "table.csv"):
        raise full
    with pytest.raises(OSError, match="'other'"), replacing(tmp_path / "table.csv"):
        raise OSError(errno.EIO, "Input/output error", "other")
    with pytest.raises(FileNotFoundError, match="No such file or directory: .*/none/table.csv'$"):
        write_text(tmp_path / "none" / "table.csv", "")


@pytest.mark.skipif(not os.path.exists("/dev/fd"), reason="there are no names of open files")
def test_an_open_file_is_written_to(tmp_path):
    with (tmp_path / "redirected").open("w") as file:
        for path in (f"/dev/fd/{file.fileno()}", f"/proc/self/fd/{file.fileno()}"):
            with replacing(path) as part:
                assert str(part) == path

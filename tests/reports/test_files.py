"""Files appear whole or not at all."""

import pytest

from pushforward.reports.files import write_all, write_text


def test_all_files_or_none(tmp_path):
    def make(folder):
        (folder / "a").write_text("new")
        if broken:
            raise RuntimeError("broken")
        (folder / "b").write_text("new")

    out = tmp_path / "deep" / "out"
    broken = True
    with pytest.raises(RuntimeError):
        write_all(out, make)
    assert not [*out.iterdir()]
    broken = False
    assert write_all(out, make) == [out / "a", out / "b"]


def test_text_replaces_what_was_there(tmp_path):
    (tmp_path / "page").write_text("old")
    assert write_text(tmp_path / "page", "né").read_text(encoding="utf-8") == "né"
    assert [path.name for path in tmp_path.iterdir()] == ["page"]

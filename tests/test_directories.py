"""Run directories: nothing leaves them, nothing follows a link out of them, files have the rights the user wants."""

import os
import stat
from pathlib import Path

import pytest

from neurosbd.config.resolve import load_model
from neurosbd.errors import UsageError
from neurosbd.files.library import find
from neurosbd.files.writing import beside, sweep_files, write_text


@pytest.mark.parametrize(
    "name", ["../../escaped", "/etc/x", "a/b", "a\\b", "..", ".", "", "a\0b", "\x1b[2J", "x" * 300]
)
def test_a_name_that_leads_out_of_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    """Of a model it names the run directory. Must fail when the schema takes any text (tried)."""
    model = tmp_path / "mine.toml"
    model.write_text(find("models", "digits-mlp").read_text())
    with pytest.raises(UsageError, match=r"name: .*(cannot be the name of a file or folder|bytes long)"):
        load_model(model, settings={"name": name})


def test_honest_names_are_taken() -> None:
    for name in ("digits-mlp", "Mein Modell 2.1", "réseau"):
        assert load_model("digits-mlp", settings={"name": name}).name == name


def test_files_follow_the_umask_and_links_are_replaced(tmp_path: Path) -> None:
    """Must fail with a fixed 0644, and when a file is opened in place (both tried)."""
    precious = tmp_path / "precious"
    precious.write_text("precious")
    (tmp_path / "link").symlink_to(precious)
    for mask in (0o077, 0o027, 0o002):
        before = os.umask(mask)
        try:
            write_text(tmp_path / "link", "new")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "link").lstat().st_mode) == 0o666 & ~mask
    assert precious.read_text() == "precious" and (tmp_path / "link").read_text() == "new"


def test_leftovers_of_killed_writers_are_swept_and_nothing_else(tmp_path: Path) -> None:
    mine = [tmp_path / name for name in (".a.csv-backup", ".a.csv-old.copy", "a.csv", ".b.csv-01234567")]
    left = [beside(tmp_path / "a.csv"), tmp_path / ".a.csv-k_8x0z9q"]  # the second as older versions named them
    for path in (*mine, *left):
        path.write_text("")
    sweep_files(tmp_path, ["a.csv"])
    assert set(tmp_path.iterdir()) == set(mine)

"""Files of unknown origin, names that become files, and folders where something is built."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from neurosbd.errors import UsageError
from neurosbd.files.library import path_component, relative_path
from neurosbd.files.writing import regular, sweep, workplace

NO_NAMES = [
    "",
    ".",
    "..",
    "/etc/passwd",
    "a/b",
    "..\\up",
    "C:evil",
    "a\0b",
    "a\x1b[2Jb",
    "line\nline",
    "x" * 201,
]


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_name_leads_nowhere_else(name: str) -> None:
    """Must fail when any of the conditions is left out (tried: the separators)."""
    with pytest.raises(UsageError, match=r"cannot be the name|bytes long"):
        path_component(name)


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a//b", "a/../b", "a/", "./a"])
def test_a_path_stays_below_its_folder(name: str) -> None:
    with pytest.raises(UsageError, match="could lead out of the folder"):
        relative_path(name)


def test_plain_names_pass() -> None:
    for name in ("digits-mlp", "my set 2", "Größe", "a.b.c", "-x"):
        assert path_component(name) == name
    assert relative_path("val/images") == "val/images"


def test_only_plain_files_are_opened(tmp_path: Path) -> None:
    """Must fail when the kind is not looked at: the FIFO then passes, and its reader waits forever (tried)."""
    fifo, there, link = tmp_path / "fifo", tmp_path / "file", tmp_path / "link"
    os.mkfifo(fifo)
    there.write_text("")
    link.symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        for path, message in (
            (fifo, "is a FIFO"), (tmp_path / "socket", "is a socket"), (link, "is a device"), (tmp_path, "is a folder"),
            (tmp_path / "gone", "No such file"), (Path("a\0b"), "null"),
        ):  # fmt: skip
            with pytest.raises(UsageError, match=message):
                regular(path)
    assert regular(there) == there


def test_a_workplace_follows_the_umask_and_is_removed(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        with pytest.raises(RuntimeError), workplace(tmp_path / "cache", "decoding") as place:
            assert stat.S_IMODE(place.stat().st_mode) == 0o750
            raise RuntimeError
    finally:
        os.umask(before)
    assert not list((tmp_path / "cache").iterdir())


def test_only_leftovers_of_the_dead_are_swept(tmp_path: Path) -> None:
    """Must fail when the process is not asked for: the workplace of the living goes too (tried)."""
    build = "import sys, pathlib, neurosbd.files.writing as f; w = f.workplace(pathlib.Path(sys.argv[1]), 'decoding'); "
    build += "p = w.__enter__(); print(p, flush=True); sys.stdin.read()"
    living, killed = (
        subprocess.Popen(
            [sys.executable, "-c", build, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    )
    assert living.stdout is not None and killed.stdout is not None
    place, left = (Path(stream.readline().strip()) for stream in (living.stdout, killed.stdout))
    killed.kill()
    killed.communicate()
    old = tmp_path / ".decoding-somewhere-1-00000000"
    old.mkdir()
    os.utime(old, (0, 0))
    sweep(tmp_path, "decoding")
    assert place.is_dir() and not left.exists() and not old.exists()
    living.communicate("")

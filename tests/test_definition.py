"""Definitions of data sets by strangers: what they name stays below the user's folders, and what they lack is said."""

import hashlib
import http.server
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from neurosbd.datasets.definition import load_file
from neurosbd.datasets.download import get
from neurosbd.datasets.load import READERS, load_data
from neurosbd.datasets.locate import locate
from neurosbd.errors import UsageError


def written(where: Path, /, **changes: str) -> Path:
    """A definition with some values exchanged or, if empty, left out."""
    values = {
        "name": '"toy"', "about": '"x"', "licence": '"x"', "source": '"x"', "reader": '"idx"',
        "files": '{ train = ["a", "b"], test = ["c", "d"] }', **changes,
    }  # fmt: skip
    download = values.pop("download", "")
    lines = [f"{key} = {value}" for key, value in values.items() if value]
    path = where / "toy.toml"
    path.write_text(
        "\n".join(lines) + "\n" + "".join(f"[[download]]\n{part}\n" for part in download.split("|") if part)
    )
    return path


def address(url: str) -> str:
    return f'url = "{url}"\nsha256 = "{"0" * 64}"\nsize = 4'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": '"/root/.ssh"'}, r"name: '/root/.ssh' cannot be the name"),
        ({"name": '"../escaped"'}, "name: '../escaped' cannot be the name"),
        ({"name": '".ssh"'}, "name: '.ssh' begins with '.'"),
        ({"name": '"a\\u001b[2J"'}, "cannot be the name"),
        ({"folder": '"../up"'}, "folder: '../up' could lead out"),
        ({"folder": '"/etc"'}, "folder: '/etc' could lead out"),
        ({"files": '{ train = ["../a", "b"], test = ["c", "d"] }'}, "files.train.0: '../a' could lead out"),
        (
            {"files": '{ train = ["/etc/passwd", "b"], test = ["c", "d"] }'},
            "files.train.0: '/etc/passwd' could lead out",
        ),
        ({"packed": '"/../x"'}, "packed"),
        ({"download": address("https://x.example/")}, "download.0.url: '' cannot be the name"),
        ({"download": address("https://x.example/..")}, r"download.0.url: '..' cannot be the name"),
        ({"download": address("https://x.example/.bashrc")}, "begins with '.'"),
        ({"download": address("https://x.example/a\\\\b")}, "cannot be the name"),
        ({"download": address("file:///etc/passwd")}, "download.0.url: string should match pattern"),
        ({"download": address("https://[x/a")}, "download.0.url: Invalid IPv6 URL"),
        ({"download": address("https://x.example/a") + "|" + address("https://y.example/a")}, "same file name"),
        ({"options": "{ label_bytes = 0 }", "reader": '"cifar"'}, "options.label_bytes"),
    ],
)
def test_a_definition_names_nothing_outside(tmp_path: Path, change: dict[str, str], message: str) -> None:
    """Must fail when a field is plain text again (tried: name, files, url)."""
    with pytest.raises(UsageError, match=message):
        load_file(written(tmp_path, **change), READERS)


def test_the_name_of_a_download_is_without_the_query(tmp_path: Path) -> None:
    definition = load_file(written(tmp_path, download=address("https://x.example/a.zip?up=/../b#c/d")), READERS)
    assert definition.download[0].filename == "a.zip"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": '{ train = ["a"], test = ["a", "a"] }'}, "needs files.train with 2 names"),
        ({"files": '{ tarin = ["a", "a"], test = ["a", "a"] }'}, "needs files.train with 2 names"),
        ({"reader": '"cifar"'}, "needs options.label_bytes"),
        ({"options": "{ label_bytes = 1 }"}, "has no option 'label_bytes'"),
        ({"reader": '"table"', "files": '{ all = ["a"] }', "options": "{ test_every = 5, blok = 2 }"}, "mean 'block'"),
        ({"reader": '"generated"', "files": ""}, "needs process and draws"),
        ({"reader": '"folder"', "files": "", "options": "{ channels = 2 }"}, "options.channels is 2; legal are 1 "),
    ],
)
def test_a_definition_without_what_its_reader_reads(tmp_path: Path, change: dict[str, str], message: str) -> None:
    for name in "abcd":
        (tmp_path / name).mkdir()
    with pytest.raises(UsageError, match=message):
        load_data(written(tmp_path, **change), tmp_path)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """Must fail when the first files are named instead of those that are missing (tried)."""
    top = tmp_path / "tiny-imagenet-200"
    (top / "train" / "n1" / "images").mkdir(parents=True)
    (top / "val" / "n1").mkdir(parents=True)
    for name in ("wnids.txt", "words.txt", "val/val_annotations.txt"):
        (top / name).write_text("n1\tx\n")
    with pytest.raises(UsageError, match=r"not whole in .*tiny-imagenet-200: val/images missing, 4 of 5 are there"):
        load_data("tiny-imagenet", tmp_path)


def test_a_fifo_among_the_files_is_not_opened(tmp_path: Path) -> None:
    """Must fail (by waiting forever) when the kind of the files is not looked at (tried)."""
    for name in "abc":
        (tmp_path / name).write_text("")
    os.mkfifo(tmp_path / "d")
    with pytest.raises(UsageError, match="is a FIFO"):
        locate(load_file(written(tmp_path), READERS), tmp_path)
    os.mkfifo(tmp_path / "mine.npz")
    with pytest.raises(UsageError, match="is a FIFO"):
        load_data(tmp_path / "mine.npz")


def test_a_download_stays_in_the_folder_of_the_user(tmp_path: Path) -> None:
    """A stranger's definition overwrote a file in the home folder. Must fail when the name is plain text (tried)."""
    (tmp_path / "srv").mkdir()
    (tmp_path / "srv" / "authorized_keys").write_bytes(b"EVIL")
    home = tmp_path / "home" / ".ssh"
    home.mkdir(parents=True)
    (home / "authorized_keys").write_text("GOOD")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    def handler(*given: object) -> Quiet:
        return Quiet(*given, directory=str(tmp_path / "srv"))  # type: ignore[arg-type]

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}/authorized_keys"
        item = f'url = "{url}"\nsha256 = "{hashlib.sha256(b"EVIL").hexdigest()}"\nsize = 4'
        with pytest.raises(UsageError, match="cannot be the name"):
            get(load_file(written(tmp_path, name=f'"{home}"', download=item), READERS), tmp_path / "data")
        (got,) = get(load_file(written(tmp_path, download=item), READERS), tmp_path / "data")
        server.shutdown()
    assert (home / "authorized_keys").read_text() == "GOOD" and got == tmp_path / "data" / "toy" / "authorized_keys"


def test_the_cache_is_not_left_by_any_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names of a user's own files are not refused: the folder in the cache has a plain name of its own."""
    monkeypatch.setenv("NEUROSBD_CACHE", str(tmp_path / "cache"))
    path = tmp_path / f"..{'x' * 100}: a b\x1b[2J.npz"
    values, labels = np.arange(12.0).reshape(4, 3), np.arange(4) % 2
    np.savez(path, train_values=values, train_labels=labels, test_values=values, test_labels=labels)
    load_data(path)
    (place,) = (tmp_path / "cache" / "decoded").iterdir()
    assert place.is_dir() and place.name.isprintable() and len(place.name) < 100

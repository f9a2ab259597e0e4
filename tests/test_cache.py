"""The cache of decoded sets: a copy that is never trusted, never in the way and never half-written."""

import errno
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neurosbd.datasets.cache import cached
from neurosbd.datasets.definition import DatasetFile, load_file
from neurosbd.datasets.load import READERS, Dataset, load_data
from neurosbd.datasets.samples import Samples, Splits
from neurosbd.errors import UsageWarning


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NEUROSBD_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "decoded"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A set of a user's own, as images."""
    rng, path = np.random.default_rng(0), tmp_path / "mine.npz"
    train, test = (rng.integers(0, 256, (20, 8, 8), np.uint8) for _ in range(2))
    labels = np.arange(20) % 10
    np.savez(path, train_values=train, train_labels=labels, test_values=test, test_labels=labels)
    return path


def copied(data: Dataset) -> Dataset:
    """Off the files that are about to be damaged."""
    train, test = (Samples(np.array(s.values), np.array(s.targets)) for s in (data.train, data.test))
    return replace(data, train=train, test=test)


def equal(a: Dataset, b: Dataset) -> bool:
    pairs = ((a.train, b.train), (a.test, b.test))
    same = all(np.array_equal(x.values, y.values) and np.array_equal(x.targets, y.targets) for x, y in pairs)
    return same and (a.classes, a.size, a.mean) == (b.classes, b.size, b.mean)


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


def a_file(place: Path) -> None:
    shutil.rmtree(place)
    place.write_text("not a folder")


def a_link(place: Path) -> None:
    place.rename(place.parent / "elsewhere")
    flip(place.parent / "elsewhere" / "train_values.npy", 500)
    place.symlink_to(place.parent / "elsewhere")


def a_fifo(place: Path) -> None:
    (place / "about.json").unlink()
    os.mkfifo(place / "about.json")


def other_kind(place: Path) -> None:
    about = (place / "about.json").read_text()
    (place / "about.json").write_text(about.replace('"Samples"', '"EventSamples"'))


def of_another_set(place: Path) -> None:
    place.rename(place.parent / "mine-0000000000000000")
    shutil.copytree(place.parent / "mine-0000000000000000", place)
    text = (place / "about.json").read_text().replace(place.name, "mine-0000000000000000")
    (place / "about.json").write_text(text)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "an array is empty": lambda place: (place / "train_values.npy").write_bytes(b""),
    "an array is cut": lambda place: os.truncate(place / "test_values.npy", 700),
    "an array is longer": lambda place: os.truncate(place / "test_values.npy", 5000),
    "one bit of a pixel": lambda place: flip(place / "train_values.npy", 500),
    "one bit of a label": lambda place: flip(place / "test_targets.npy", 140),
    "an array is missing": lambda place: (place / "test_targets.npy").unlink(),
    "an array is a folder": lambda place: ((place / "test_targets.npy").unlink(), (place / "test_targets.npy").mkdir()),
    "no about.json": lambda place: (place / "about.json").unlink(),
    "about.json is cut": lambda place: os.truncate(place / "about.json", 40),
    "about.json is a list": lambda place: (place / "about.json").write_text("[]"),
    "about.json is empty": lambda place: (place / "about.json").write_text("{}"),
    "about.json is not text": lambda place: (place / "about.json").write_bytes(b"\xff\xfe"),
    "about.json is deep": lambda place: (place / "about.json").write_text("[" * 100_000),
    "about.json is a fifo": a_fifo,
    "about.json says another kind": other_kind,
    "an empty folder": lambda place: (shutil.rmtree(place), place.mkdir()),
    "a file": a_file,
    "a link": a_link,
    "a folder of another set": of_another_set,
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_not_whole_is_decoded_anew_and_replaced(store: Path, mine: Path, damage: str) -> None:
    """Must fail when sizes and checksums are not compared: a pixel is then wrong, an empty file a traceback (tried)."""
    first = copied(load_data(mine))
    (place,) = store.iterdir()
    DAMAGE[damage](place)
    again = load_data(mine)
    assert equal(again, first) and isinstance(again.train.values, np.memmap)
    inode = (place / "about.json").stat().st_ino
    assert equal(load_data(mine), first) and (place / "about.json").stat().st_ino == inode  # and is trusted again
    assert not list(store.glob(".decoding-*"))


@pytest.mark.parametrize("moment", ["np.load", "zlib.crc32"])
def test_an_array_that_is_cut_while_it_is_looked_at_is_decoded_anew(store: Path, mine: Path, moment: str) -> None:
    """Just before it is mapped, or while its checksum is taken. Must fail where the checksum is that of a mapped file:
    the process ends by SIGBUS (tried).
    """
    load_data(mine)
    (place,) = store.iterdir()
    module, _, name = moment.partition(".")
    cut = (
        "import os, sys, neurosbd, neurosbd.datasets.cache as cache\n"
        f"whole, module = cache.{moment}, cache.{module}\n"
        "def cutting(*given, **options):\n"
        "    files = [f for f in os.listdir(sys.argv[2]) if f.endswith('.npy')]\n"
        f"    if {moment!r} == 'np.load' or not isinstance(given[0], bytes) or given[0][:1] == b'\\x93':\n"
        f"        module.{name} = whole\n"
        "        [os.truncate(os.path.join(sys.argv[2], f), 0) for f in files]\n"
        "    return whole(*given, **options)\n"
        f"module.{name} = cutting\n"
        "print(neurosbd.load_data(sys.argv[1]).train.values.sum())\n"
    )
    done = subprocess.run([sys.executable, "-c", cut, str(mine), str(place)], capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, str(np.load(mine)["train_values"].sum())), done.stderr


def test_the_cache_follows_the_files(store: Path, mine: Path) -> None:
    first = load_data(mine)
    assert isinstance(first.train.values, np.memmap)
    arrays = dict(np.load(mine))
    arrays["train_values"] = 255 - arrays["train_values"]
    np.savez(mine, **arrays)
    os.utime(mine, ns=(1, 1))
    assert np.array_equal(load_data(mine).train.values, 255 - first.train.values)


def test_the_cache_notices_a_new_picture(store: Path, tmp_path: Path) -> None:
    """Also behind a link. Must fail when links to folders are not followed (tried)."""
    for name in (f"{label}/{i}.png" for label in "ab" for i in range(5)):
        (tmp_path / "q" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4)).save(tmp_path / "q" / name)
    (tmp_path / "p").mkdir()
    for name in ("a", "b"):
        (tmp_path / "p" / name).symlink_to(tmp_path / "q" / name)
    before = load_data(tmp_path / "p")
    Image.new("L", (4, 4)).save(tmp_path / "q" / "a" / "5.png")
    assert len(load_data(tmp_path / "p").train) == len(before.train) + 1


def full(*what: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_where_nothing_can_be_kept_the_set_is_decoded_and_that_is_said(
    store: Path, mine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = copied(load_data(mine))
    monkeypatch.setenv("NEUROSBD_CACHE", "/proc/nowhere")
    with pytest.warns(UsageWarning, match=r"mine: the decoded set cannot be kept in .*NEUROSBD_CACHE"):
        assert equal(load_data(mine), first)
    shutil.rmtree(store)
    monkeypatch.setenv("NEUROSBD_CACHE", str(store.parent))
    monkeypatch.setattr(np, "save", full)
    with pytest.warns(UsageWarning, match="No space left on device"):
        assert equal(load_data(mine), first)
    assert not list(store.iterdir())  # nothing half-written takes up room


def test_permissions_follow_the_umask(store: Path, mine: Path) -> None:
    """A cache that a group shares. Must fail with a folder from mkdtemp, which is its owner's alone (tried)."""
    before = os.umask(0o007)
    try:
        load_data(mine)
    finally:
        os.umask(before)
    (place,) = store.iterdir()
    assert stat.S_IMODE(place.stat().st_mode) == 0o770
    assert {stat.S_IMODE(file.stat().st_mode) for file in place.iterdir()} == {0o660}


def test_leftovers_of_killed_runs_are_swept_at_the_next_load(store: Path, mine: Path) -> None:
    load_data(mine)
    killed = (
        "import os, signal, sys\n"
        "import neurosbd.datasets.cache as cache\n"
        "cache.np.save = lambda *what: os.kill(os.getpid(), signal.SIGKILL)\n"
        "import neurosbd\n"
        "neurosbd.load_data(sys.argv[1])\n"
    )
    shutil.copy(mine, mine.with_name("other.npz"))
    done = subprocess.run([sys.executable, "-c", killed, str(mine.with_name("other.npz"))])
    assert done.returncode == -9 and list(store.glob(".decoding-*"))
    load_data(mine)
    assert not list(store.glob(".decoding-*"))


def test_two_decode_at_once(store: Path, tmp_path: Path) -> None:
    """The second finds the place taken when it has decoded; both read what is there."""
    definition: DatasetFile = load_file("digits", READERS)
    samples = Samples(np.zeros((4, 2, 2, 1), np.uint8), np.arange(4))
    splits, calls = Splits(samples, samples, tuple("abcd")), []

    def decode() -> Splits[Samples]:
        calls.append(1)
        if len(calls) == 1:
            cached(definition, tmp_path, decode)
        return splits

    again = cached(definition, tmp_path, decode)
    assert len(calls) == 2 and np.array_equal(again.train.targets, np.arange(4))
    assert [p.name.startswith("digits-") for p in store.iterdir()] == [True]

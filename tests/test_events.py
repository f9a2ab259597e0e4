"""Event streams: both layouts in small and everything that can be broken about them, bins against numpy, batches."""

import gzip
import os
import warnings
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from neurosbd.datasets.definition import load_file
from neurosbd.datasets.download import get
from neurosbd.datasets.events import EventBatch, EventResident
from neurosbd.datasets.inspect import inspect
from neurosbd.datasets.load import READERS, Dataset, load_data
from neurosbd.datasets.samples import EventSamples, joined
from neurosbd.datasets.stream import Stream, resident
from neurosbd.errors import UsageError, UsageWarning
from neurosbd.files.hdf5 import check_lengths

CPU = torch.device("cpu")
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU"))]


@pytest.fixture(autouse=True)
def nothing_else_around(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NEUROSBD_DATA", str(tmp_path / "nowhere"))


def record(x: int, y: int, polarity: int, time: int) -> bytes:
    """40 bits, big-endian."""
    return (x << 32 | y << 24 | polarity << 23 | time).to_bytes(5, "big")


@pytest.fixture
def nmnist(tmp_path: Path) -> Path:
    """Three training recordings and one test recording per digit, up to 0.2 s."""
    rng = np.random.default_rng(0)
    for split, count in (("Train", 30), ("Test", 10)):
        for number in range(1, count + 1):
            path = tmp_path / "nmnist" / split / str((number * 7) % 10) / f"{number:05d}.bin"
            path.parent.mkdir(parents=True, exist_ok=True)
            times = np.sort(rng.integers(0, 200_000, rng.integers(20, 60)))
            events = zip(*rng.integers(0, [[34], [34], [2]], (3, len(times))), times, strict=True)
            path.write_bytes(b"".join(record(*map(int, event)) for event in events))
    return tmp_path


def write_shd(path: Path, times: list[Any], units: list[Any], labels: Any, /, **dtypes: Any) -> None:
    """A file in the published layout."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, rows, dtype in (("times", times, np.float16), ("units", units, np.uint16)):
            dtype = dtypes.get(name, dtype)
            data = file.create_dataset(f"spikes/{name}", (len(rows),), h5py.vlen_dtype(dtype))
            for i, row in enumerate(rows):
                data[i] = np.asarray(row, dtype)
        file["labels"] = np.asarray(labels)
        file["extra/speaker"] = np.zeros(len(times), np.uint16)


@pytest.fixture
def shd(tmp_path: Path) -> Path:
    """40 training and 20 test recordings; one of them is silent."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 20)):
        lengths = [0, *rng.integers(1, 50, count - 1)]
        times = [np.sort(rng.uniform(0, 1.4, n)) for n in lengths]
        units = [rng.integers(0, 700, n) for n in lengths]
        write_shd(tmp_path / "shd" / f"shd_{split}.h5", times, units, np.arange(count, dtype=np.uint16) % 20)
    return tmp_path


def histogram(samples: EventSamples, i: int, steps: int, period: int) -> np.ndarray:
    """Oracle: events of recording i in [steps, *size], period in us."""
    part = slice(samples.offsets[i], samples.offsets[i + 1])
    edges = np.arange(steps + 1) * period - 0.5  # stamps are whole: no event lies on an edge
    units = np.arange(np.prod(samples.size) + 1) - 0.5
    counts, _, _ = np.histogram2d(samples.time[part], samples.unit[part], (edges, units))
    return counts.reshape(steps, *samples.size)


def frames(batch: EventBatch, steps: int, dt: float, **options: Any) -> torch.Tensor:
    return torch.stack(list(batch.frames(steps, dt, **options)))


def test_nmnist_layout(nmnist: Path) -> None:
    data = load_data("nmnist", nmnist)
    assert data.size == (2, 34, 34) and data.classes == tuple("0123456789") and data.name == "nmnist"
    assert len(data.train) == 30 and len(data.test) == 10
    assert list(data.train.labels) == [(n * 7) % 10 for n in range(1, 31)]  # in the order of the numbers
    assert 0.15 < data.duration <= 0.2
    raw = (
        np.frombuffer((nmnist / "nmnist" / "Train" / "4" / "00002.bin").read_bytes(), np.uint8)
        .reshape(-1, 5)
        .astype(int)
    )
    part = slice(*data.train.offsets[1:3])
    expected = (raw[:, 2] >> 7) * 34 * 34 + raw[:, 1] * 34 + raw[:, 0]
    assert np.array_equal(data.train.unit[part], expected)
    stamps = [int.from_bytes(bytes(r[2:].tolist()), "big") & 0x7FFFFF for r in raw]
    assert np.array_equal(data.train.time[part], stamps)
    assert data.train.time.dtype == data.train.unit.dtype == np.int32


def test_nmnist_from_the_published_zips(nmnist: Path, tmp_path: Path) -> None:
    plain = load_data("nmnist", nmnist)
    (tmp_path / "zipped").mkdir()
    for split in ("Train", "Test"):
        with zipfile.ZipFile(tmp_path / "zipped" / f"{split}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for path in (nmnist / "nmnist" / split).rglob("*"):
                archive.write(path, path.relative_to(nmnist / "nmnist"))
            archive.writestr(f"__MACOSX/{split}/0/._00001.bin", b"not a recording")
    same(load_data("nmnist", tmp_path / "zipped"), plain)


def same(a: Dataset, b: Dataset) -> None:
    for x, y in ((a.train, b.train), (a.test, b.test)):
        for name in ("time", "unit", "offsets", "labels"):
            assert np.array_equal(getattr(x, name), getattr(y, name))
    assert (a.size, a.classes, a.duration) == (b.size, b.classes, b.duration)


def test_overflow_records_move_later_stamps(nmnist: Path) -> None:
    path = nmnist / "nmnist" / "Train" / "7" / "00001.bin"
    events = [(1, 2, 0, 8000), (0, 240, 0, 8191), (3, 4, 1, 5), (0, 240, 0, 8191), (0, 240, 0, 8191), (5, 6, 0, 7)]
    path.write_bytes(b"".join(record(*event) for event in events))
    samples = load_data("nmnist", nmnist).train
    assert list(samples.time[:3]) == [8000, 8192 + 5, 3 * 8192 + 7] and samples.offsets[1] == 3
    assert list(samples.unit[:3]) == [2 * 34 + 1, (34 + 4) * 34 + 3, 6 * 34 + 5]


def test_shd_layout(shd: Path) -> None:
    data = load_data("shd", shd)
    assert data.size == (700,) and len(data.classes) == 20 and (len(data.train), len(data.test)) == (40, 20)
    assert list(data.train.labels[:3]) == [0, 1, 2] and data.train.offsets[1] == 0  # the silent one
    with h5py.File(shd / "shd" / "shd_train.h5") as file:
        times, units = file["spikes/times"], file["spikes/units"]
        assert isinstance(times, h5py.Dataset) and isinstance(units, h5py.Dataset)
        part = slice(*data.train.offsets[5:7])
        assert np.array_equal(data.train.time[part], np.rint(times[5].astype(float) * 1e6))
        assert np.array_equal(data.train.unit[part], units[5])


def test_shd_from_the_published_gzip_and_with_longer_floats(shd: Path, tmp_path: Path) -> None:
    plain = load_data("shd", shd)
    (tmp_path / "packed").mkdir()
    for path in (shd / "shd").iterdir():
        (tmp_path / "packed" / f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
    same(load_data("shd", tmp_path / "packed"), plain)
    write_shd(shd / "shd" / "shd_train.h5", [[0.123456], [0.5]], [[699], [1]], [19, 0], times=np.float32)
    with pytest.warns(UsageWarning, match="18 of 20 classes .* have no training example, but 18 in the test"):
        assert load_data("shd", shd).train.time[0] == 123456


def break_nmnist(case: str, root: Path) -> None:
    path = root / "nmnist" / "Train" / "7" / "00001.bin"
    good = path.read_bytes()
    content = {
        "cut": good[:-2],
        "empty": b"",
        "column": good + record(34, 0, 0, 1 << 20),
        "row": good + record(0, 200, 0, 1 << 20),
        "backwards": record(0, 0, 0, 300_000) + record(0, 0, 0, 280_000),
        "forever": record(0, 240, 0, 0) * (1 << 18) + record(0, 0, 0, 0),
        "large": bytes((1 << 24) + 5),
    }
    if case in content:
        path.write_bytes(content[case])
    elif case == "fifo":
        path.unlink()
        os.mkfifo(path)
    elif case == "no recording":
        for file in (root / "nmnist" / "Test").rglob("*.bin"):
            file.unlink()
    elif case == "no event":
        for file in (root / "nmnist" / "Test").rglob("*.bin"):
            file.write_bytes(record(0, 240, 0, 0))
    else:
        for split in ("Train", "Test"):
            (root / "nmnist" / split).rename(root / split)
            with zipfile.ZipFile(root / "nmnist" / f"{split}.zip", "w") as archive:
                for file in (root / split).rglob("*.bin"):
                    archive.write(file, file.relative_to(root))
                    if case == "zip twice":
                        archive.write(file, Path("copy") / file.relative_to(root))
        packed = root / "nmnist" / "Train.zip"
        data = bytearray(packed.read_bytes())
        if case == "zip encrypted":
            data[6] |= 1
            data[data.index(b"PK\x01\x02") + 8] |= 1
        elif case != "zip twice":
            data[60] ^= 255  # inside the first recording
        packed.write_bytes(data[:-30] if case == "zip cut" else data)


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("cut", r"00001.bin: truncated or corrupt: \d+ bytes; legal is a whole number of records of 5 bytes"),
        ("empty", "00001.bin: truncated or corrupt: 0 bytes"),
        ("column", r"00001.bin: record \d+ has x = 34, y = 0; legal is 0 to 33.*fetch it again"),
        ("row", r"00001.bin: record \d+ has x = 0, y = 200; legal is 0 to 33"),
        ("backwards", "00001.bin: time goes back from 300000 to 280000 us at record 1; legal are steps back"),
        ("forever", "00001.bin: time runs to 2147483648 us; legal is up to 2147483647"),
        ("large", "in up to 16777216 bytes"),
        ("no recording", "test: there is no example"),
        ("no event", "test: there is no event"),
        ("fifo", "00001.bin: is a FIFO"),
        ("zip twice", r"there are two recordings \d+.bin of class \d"),
        ("zip encrypted", "Train.zip: truncated or corrupt zip.*encrypted"),
        ("zip cut", "Train.zip: truncated or corrupt zip"),
        ("zip damaged", "Train.zip: truncated or corrupt zip.*CRC"),
    ],
)
def test_broken_recordings_are_refused_with_a_reason(case: str, message: str, nmnist: Path) -> None:
    break_nmnist(case, nmnist)
    with pytest.raises(UsageError, match=message):
        load_data("nmnist", nmnist)


def break_shd(case: str, root: Path) -> None:
    path = root / "shd" / "shd_train.h5"
    rows: dict[str, tuple[list[Any], list[Any], list[int]]] = {
        "late": ([[0.1], [5000.0]], [[0], [1]], [0, 1]),
        "early": ([[0.1], [-0.5]], [[0], [1]], [0, 1]),
        "nan": ([[0.1], [np.nan]], [[0], [1]], [0, 1]),
        "channel": ([[0.1], [0.2]], [[0], [700]], [0, 1]),
        "uneven": ([[0.1], [0.2, 0.3]], [[0], [1]], [0, 1]),
        "labels": ([[0.1], [0.2]], [[0], [1]], [0, 1, 2]),
        "class": ([[0.1], [0.2]], [[0], [1]], [0, 20]),
    }
    if case in rows:
        return write_shd(path, *rows[case], times=np.float32)
    if case == "integers":
        return write_shd(path, [[1], [2]], [[0], [1]], [0, 1], times=np.int32)
    if case == "float labels":
        return write_shd(path, [[0.1]], [[0]], [0.5])
    if case in ("cut", "nonsense"):
        path.write_bytes(path.read_bytes()[:-500] if case == "cut" else b"\x89HDF" + bytes(100))
        return None
    if case == "heap":  # the library would search such a file forever
        data = bytearray(path.read_bytes())
        place = data.index(b"GCOL") + 16 + 8  # size of the first list
        data[place] += 1 << 7
        path.write_bytes(data)
        return None
    if case == "gzip cut":
        packed = path.with_name("shd_train.h5.gz")
        packed.write_bytes(gzip.compress(path.read_bytes())[:-40])
        return path.unlink()
    with h5py.File(path, "r+") as file:
        del file["labels"]
        if case == "external link":
            file["labels"] = h5py.ExternalLink("/dev/zero", "/labels")
        elif case == "soft link":
            file["labels"] = h5py.SoftLink("/extra/speaker")
        elif case == "external values":
            file.create_dataset("labels", (40,), np.uint16, external=[("/dev/zero", 0, 80)])
        elif case == "virtual":
            layout = h5py.VirtualLayout((40,), np.uint16)
            layout[:] = h5py.VirtualSource("/dev/zero", "labels", (40,))
            file.create_virtual_dataset("labels", layout)
        elif case == "group":
            file.create_group("labels")
        elif case == "many":
            file.create_dataset("labels", (1 << 40,), np.uint16, chunks=(1 << 16,))
        elif case == "no group":
            del file["spikes"]
            file["spikes"] = np.zeros(3)
    return None


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("cut", "shd_train.h5: truncated or corrupt HDF5"),
        ("nonsense", "shd_train.h5: truncated or corrupt HDF5"),
        ("gzip cut", "shd_train.h5.gz: truncated or corrupt gzip"),
        ("heap", r"shd_train.h5: truncated or corrupt HDF5 file \(heap at byte \d+\)"),
        ("late", "recording 1 has a spike at 5000.0 s; legal is 0 to 2000 s"),
        ("early", "recording 1 has a spike at -0.5 s"),
        ("nan", "recording 1 has a spike at nan s"),
        ("channel", "recording 1 has a spike in channel 700; legal is 0 to 699"),
        ("uneven", "recording 1 has 2 times, but 1 units"),
        ("labels", "2 lists of times, 2 of units, 3 labels"),
        ("class", "labels go from 0 to 20, but there are 20 classes"),
        ("integers", "'spikes/times' is object .*legal are lists of floats"),
        ("float labels", "'labels' is float64 .*legal are integers"),
        ("missing", "'labels' is missing; needed: spikes/times, spikes/units, labels"),
        ("external link", "'labels' is a link to another place; refused"),
        ("soft link", "'labels' is a link to another place; refused"),
        ("external values", "'labels' keeps its values in other files; refused"),
        ("virtual", "'labels' keeps its values in other files; refused"),
        ("group", "'labels' is no dataset"),
        ("many", "room for more than 131,072 recordings; refused"),
        ("no group", "'spikes/times' is missing"),
    ],
)
def test_broken_hdf5_files_are_refused_with_a_reason(case: str, message: str, shd: Path) -> None:
    break_shd(case, shd)
    with pytest.raises(UsageError, match=message):
        load_data("shd", shd)


def test_lists_that_share_their_bytes_cannot_fill_the_memory(shd: Path) -> None:
    """A file of 0.6 MB whose 400 recordings all point at one list of 30,000 spikes."""
    path = shd / "shd" / "shd_train.h5"
    write_shd(path, [np.full(30_000, 0.5)] + [[]] * 399, [np.full(30_000, 7)] + [[]] * 399, np.zeros(400, int))
    with h5py.File(path, "r+") as file:
        places = []
        for name in ("times", "units"):
            data = file[f"spikes/{name}"]
            assert isinstance(data, h5py.Dataset)
            places.append(data.id.get_offset())
    content = bytearray(path.read_bytes())
    for place in places:
        content[place : place + 400 * 16] = content[place : place + 16] * 400
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"'spikes/times' claims more than [\d,]+ entries of text or lists; refused"):
        load_data("shd", shd)


@pytest.mark.parametrize("packed", [False, True])
def test_a_length_that_no_file_holds_is_refused_before_it_is_read(
    packed: bool, shd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Must fail if a recording is read before the lengths are looked at (tried)."""
    path = shd / "shd" / "shd_train.h5"
    with h5py.File(path, "r+") as file:
        data: Any = file["spikes/times"]
        place = data.id.get_offset() + 3 * 16
    content = bytearray(path.read_bytes())
    content[place : place + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(content)
    if packed:
        path.with_name("shd_train.h5.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    monkeypatch.setattr("neurosbd.datasets.shd._events", lambda *_: pytest.fail("a recording was read"))
    with pytest.raises(UsageError, match=r"'spikes/times' claims more than [\d,]+ entries of text or lists; refused"):
        load_data("shd", shd)


@pytest.mark.parametrize("packing", [{}, {"compression": "gzip"}, {"compression": "gzip", "shuffle": True}])
def test_shd_in_chunks(packing: dict[str, Any], shd: Path) -> None:
    """As PyTables writes lists, packed or not.

    Must fail if packed chunks are not unpacked, or all filters are taken for applied (both tried).
    """
    plain = load_data("shd", shd)
    path = shd / "shd" / "shd_train.h5"
    with h5py.File(path, "r+") as file:
        for name, dtype in (("times", np.float16), ("units", np.uint16)):
            old: Any = file[f"spikes/{name}"]
            rows = [old[i] for i in range(len(old))]
            del file[f"spikes/{name}"]
            new = file.create_dataset(f"spikes/{name}", (len(rows),), h5py.vlen_dtype(dtype), chunks=(7,), **packing)
            for i, row in enumerate(rows):
                new[i] = row
    same(load_data("shd", shd), plain)
    with h5py.File(path) as file:
        total, content = int(plain.train.offsets[-1]), path.read_bytes()
        check_lengths(file["spikes/times"], content, total, "times", "")
        with pytest.raises(UsageError, match="times claims more than"):
            check_lengths(file["spikes/times"], content, total - 1, "times", "")


@pytest.mark.parametrize("name", ["nmnist", "shd"])
def test_what_is_not_here_says_how_to_get_it(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"'{name}' is not here. Looked for .*Take .* from https://.*point --data"):
        load_data(name, tmp_path)
    with pytest.raises(UsageError, match="no such file or folder"):
        load_data(name, tmp_path / "wrong")
    with pytest.raises(UsageError, match=r"no published sha256.*https://"):
        get(load_file(name, READERS), tmp_path)


def test_subset_keeps_whole_recordings(nmnist: Path) -> None:
    whole = load_data("nmnist", nmnist)
    part = load_data("nmnist", nmnist, subset=2, test_subset=1)
    assert list(np.bincount(part.train.labels)) == [2] * 10 and len(part.test) == 10
    assert part.duration == whole.duration
    kept = np.sort(np.concatenate([np.flatnonzero(whole.train.labels == c)[:2] for c in range(10)]))
    for i, j in enumerate(kept):
        for name in ("time", "unit"):
            a, b = (getattr(s, name)[s.offsets[k] : s.offsets[k + 1]] for s, k in ((part.train, i), (whole.train, j)))
            assert np.array_equal(a, b)
    drawn = [load_data("nmnist", nmnist, subset=2, subset_seed=s).train.time for s in (1, 1, 2)]
    assert np.array_equal(drawn[0], drawn[1]) and not np.array_equal(drawn[0], drawn[2])
    with pytest.raises(UsageError, match=r"data.subset is 4 for each class, but class 0 has 3"):
        load_data("nmnist", nmnist, subset=4)


@pytest.mark.parametrize("name", ["nmnist", "shd"])
def test_the_cache_gives_back_what_was_decoded(
    name: str, nmnist: Path, shd: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NEUROSBD_CACHE", "/proc/nowhere")  # cannot be written: decoded each time
    with pytest.warns(UsageWarning, match="cannot be kept"):
        decoded = load_data(name, tmp_path)
    monkeypatch.setenv("NEUROSBD_CACHE", str(tmp_path / "cache"))
    load_data(name, tmp_path)
    cached = load_data(name, tmp_path)
    assert isinstance(cached.train.time, np.memmap) and not isinstance(decoded.train.time, np.memmap)
    same(cached, decoded)
    folder = nmnist / "nmnist" / "Train" / "0" if name == "nmnist" else None
    if folder is not None:  # a new recording is noticed
        (folder / "00099.bin").write_bytes(record(0, 0, 0, 0))
        assert len(load_data(name, tmp_path).train) == len(decoded.train) + 1


def test_check_reports_events(nmnist: Path) -> None:
    report = inspect("nmnist", nmnist)
    text = "\n".join(report.lines)
    assert "train: 30 examples, 3..3 per class" in text and "size [2, 34, 34], 10 classes" in text
    assert "per recording, median" in text and "duration 0." in text
    assert (report.verified, report.unverified) == (0, 2)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["nmnist", "shd"])
@pytest.mark.parametrize("period", [1000, 7333])
def test_frames_equal_a_histogram(name: str, period: int, device: str, nmnist: Path, shd: Path) -> None:
    data = load_data(name, nmnist)
    split = resident(data.train, data, torch.device(device))
    index = torch.tensor([3, 0, 17], device=device)
    batch, labels = split.batch(index)
    steps = 150  # shorter than the recordings: later events are dropped
    expected = np.stack([histogram(data.train, int(i), steps, period) for i in index], 1)
    counts = frames(batch, steps, period * 1e-6, binary=False)
    assert len(batch) == 3 and counts.dtype == torch.float32 and counts.shape == (steps, 3, *data.size)
    assert np.array_equal(counts.cpu().numpy(), expected) and expected.sum() > 0
    assert np.array_equal(frames(batch, steps, period * 1e-6).cpu().numpy(), expected > 0)
    assert np.array_equal(labels.cpu().numpy(), data.train.labels[[3, 0, 17]])


def small(*recordings: tuple[list[int], list[int]], size: tuple[int, ...] = (3,)) -> EventResident:
    times, units = ([np.array(r[k], np.int32) for r in recordings] for k in (0, 1))
    samples = joined(times, units, range(len(recordings)), size)
    data = Dataset("toy", samples, samples, tuple("abc"), size)
    return resident(samples, data, CPU)


def test_an_event_on_an_edge_belongs_to_the_later_bin() -> None:
    """For whole periods of which dt * 1e6 is not exact in floating point, too."""
    for period in (1, 3, 7, 700, 1100, 8191):
        batch, _ = small(([0, period - 1, period, 3 * period - 1, 3 * period], [0, 0, 1, 1, 2])).batch(
            torch.tensor([0])
        )
        got = frames(batch, 3, period * 1e-6, binary=False)[:, 0]
        assert got.tolist() == [[2, 0, 0], [0, 1, 0], [0, 1, 0]]


def test_silence_padding_and_order_in_the_file_do_not_matter() -> None:
    split = small(([], []), ([2500, 0, 900], [2, 1, 1]), ([100], [0]))
    batch, labels = split.batch(torch.tensor([0, 1, 2]))
    got = frames(batch, 3, 1e-3, binary=False)
    assert got[:, 0].sum() == 0 and got[0, 1].tolist() == [0, 2, 0] and got[2, 1].tolist() == [0, 0, 1]
    assert got[:, 2].tolist() == [[1, 0, 0], [0, 0, 0], [0, 0, 0]] and labels.tolist() == [0, 1, 2]
    nothing, _ = split.batch(torch.tensor([0]))
    assert frames(nothing, 2, 1e-3).tolist() == [[[0, 0, 0]], [[0, 0, 0]]]


def test_frames_do_not_depend_on_the_rest_of_the_batch(nmnist: Path) -> None:
    data = load_data("nmnist", nmnist)
    split = resident(data.train, data, CPU)
    whole = frames(split.batch(torch.arange(30))[0], 200, 1e-3)
    for i in (0, 11, 29):
        assert torch.equal(frames(split.batch(torch.tensor([i]))[0], 200, 1e-3)[:, 0], whole[:, i])
    assert whole.sum() > 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_frames_have_the_dtype_and_layout_asked_for(dtype: torch.dtype, nmnist: Path) -> None:
    data = load_data("nmnist", nmnist)
    frame = next(resident(data.test, data, CPU).batch(torch.arange(4))[0].frames(1, 0.2, dtype, binary=False))
    assert frame.dtype == dtype and frame.shape == (4, 2, 34, 34)
    assert frame.is_contiguous(memory_format=torch.channels_last)
    assert frame.sum() == data.test.offsets[4]


def test_frames_are_made_one_at_a_time(nmnist: Path) -> None:
    data = load_data("nmnist", nmnist)
    batch, _ = resident(data.test, data, CPU).batch(torch.arange(10))
    given = batch.frames(10**5, 1e-6)  # 9 GB if they were all made
    first, second = next(given), next(given)
    assert first.untyped_storage().nbytes() == second.untyped_storage().nbytes() == 4 * 10 * 2 * 34 * 34


@pytest.mark.parametrize(("steps", "dt"), [(0, 1e-3), (3, 0.0), (3, -1e-3), (3, float("nan")), (3, float("inf"))])
def test_impossible_bins_are_refused_at_once(steps: int, dt: float) -> None:
    batch, _ = small(([0], [0])).batch(torch.tensor([0]))
    with pytest.raises(UsageError, match="legal are steps >= 1 and 1e-9 <= dt"):
        batch.frames(steps, dt)


def test_streams_of_events_are_deterministic_and_go_on_anywhere(nmnist: Path) -> None:
    data = load_data("nmnist", nmnist)
    stream = Stream(resident(data.train, data, CPU), 8, seed=0)
    assert len(stream) == 4
    labels = torch.cat([stream.batch(0, k)[1] for k in range(4)])
    assert torch.equal(labels.sort().values, torch.from_numpy(np.sort(data.train.labels)))
    again = Stream(resident(data.train, data, CPU), 8, seed=0)
    (late, y), (same_late, same_y) = again.batch(5, 3), stream.batch(5, 3)  # any batch of any epoch, at once
    assert len(late) == 6 and torch.equal(y, same_y)
    assert torch.equal(frames(late, 20, 1e-2), frames(same_late, 20, 1e-2))
    assert not torch.equal(stream.batch(0, 0)[1], stream.batch(1, 0)[1])


def test_batches_run_through_all_recordings_in_order(shd: Path) -> None:
    data = load_data("shd", shd)
    split = resident(data.test, data, CPU)
    parts = list(split.batches(8))
    assert [len(batch) for batch, _ in parts] == [8, 8, 4] and len(split) == 20
    assert torch.equal(torch.cat([y for _, y in parts]), split.targets)
    steps = int(np.ceil(data.duration / 0.01))  # covers everything
    assert sum(float(frames(batch, steps, 0.01, binary=False).sum()) for batch, _ in parts) == len(data.test.time)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_batch_waits_for_the_device_once(nmnist: Path) -> None:
    data = load_data("nmnist", nmnist)
    split = resident(data.train, data, torch.device("cuda"))
    index = torch.arange(8, device="cuda")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            batch, _ = split.batch(index)
            assert sum(1 for _ in batch.frames(20, 1e-2)) == 20
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert sum("called a synchronizing" in str(warning.message) for warning in seen) <= 1


@pytest.fixture
def real_events(real_data: Path) -> Path:
    """Folder with the real N-MNIST, whole or in part."""
    if not (real_data / "nmnist").is_dir():
        pytest.skip("NEUROSBD_DATA holds no nmnist")
    return real_data


def test_real_nmnist(real_events: Path) -> None:
    data = load_data("nmnist", real_events)
    assert (len(data.train), len(data.test)) == (1000, 100) and data.size == (2, 34, 34)
    assert len(data.train.time) + len(data.test.time) == 4_518_827
    assert 0.3 < data.duration < 0.4
    for samples, split in ((data.train, "Train"), (data.test, "Test")):
        counts = [len(list((real_events / "nmnist" / split / str(c)).glob("*.bin"))) for c in range(10)]
        assert list(np.bincount(samples.labels, minlength=10)) == counts
    assert list(data.train.labels[:10]) == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]  # those of MNIST
    assert list(data.test.labels[:10]) == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_real_frames_equal_a_histogram(real_events: Path) -> None:
    data = load_data("nmnist", real_events)
    batch, _ = resident(data.test, data, CPU).batch(torch.arange(16))
    steps = int(np.ceil(data.duration / 5e-3))
    got = frames(batch, steps, 5e-3, binary=False).numpy()
    assert np.array_equal(got, np.stack([histogram(data.test, i, steps, 5000) for i in range(16)], 1))
    assert got.sum() == data.test.offsets[16]


def test_a_gzip_bomb_is_not_unpacked(shd: Path) -> None:
    """Must fail when what gzip gives is not bounded by its size (tried)."""
    path = shd / "shd" / "shd_train.h5"
    packed = path.with_name("shd_train.h5.gz")
    packed.write_bytes(gzip.compress(path.read_bytes() + bytes(100_000_000), 1))
    path.unlink()
    with pytest.raises(UsageError, match=r"shd_train.h5.gz: unpacks to more than [\d,]+ bytes; refused"):
        load_data("shd", shd)

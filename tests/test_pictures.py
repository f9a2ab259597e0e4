"""Pictures of a user's own: every kind of file has the right pixels or one clear sentence, and no picture is lost."""

import os
import random
import shutil
import socket
import struct
import unicodedata
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from neurosbd.cli.main import main
from neurosbd.datasets.load import load_data, resolve_data
from neurosbd.datasets.pixels import Seen, read_pictures
from neurosbd.errors import UsageError, UsageWarning

RAMP = np.tile(np.arange(0, 256, 17, dtype=np.uint8), (16, 1))  # 0, 17, ..., 255
COLOURS = np.stack([RAMP, RAMP.T, 255 - RAMP], -1)


def pixels(path: Path, grey: bool = False) -> tuple[np.ndarray, list[str]]:
    seen = Seen()
    return read_pictures([path], grey, seen)[0], seen.remarks(1)


def save(path: Path, value: int = 100, side: int = 8) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (side, side), (value,) * 3).save(path)


def folder(top: Path, *classes: str, count: int = 5) -> Path:
    for k, name in enumerate(classes):
        for i in range(count):
            save(top / name / f"x_{i}.png", 10 * k + i)
    return top


def portable(kind: str, white: int, values: np.ndarray, order: str = ">") -> bytes:
    head = f"{kind}\n{values.shape[1]} {values.shape[0]}\n{white}\n".encode()
    return head + values.astype("u1" if white < 256 else f"{order}u2").tobytes()


# ---- what a picture holds


def deep_with_a_clear_value() -> bytes:
    """A PNG of 16 bits whose value 17 * 257 is transparent: its chunk tRNS says so."""
    path = Path("deep.png")
    Image.fromarray(RAMP.astype(np.uint16) * 257).save(path)
    content = path.read_bytes()
    chunk = b"tRNS" + struct.pack(">H", 17 * 257)
    place = content.index(b"IDAT") - 4
    return content[:place] + struct.pack(">I", 2) + chunk + struct.pack(">I", zlib.crc32(chunk)) + content[place:]


GREY: dict[str, tuple[Callable[[Path], object], str]] = {  # files that all hold RAMP
    "8 bits": (lambda p: Image.fromarray(RAMP).save(p.with_suffix(".png")), ".png"),
    "16 bits png": (lambda p: Image.fromarray(RAMP.astype(np.uint16) * 257).save(p.with_suffix(".png")), ".png"),
    "16 bits pgm": (lambda p: p.with_suffix(".pgm").write_bytes(portable("P5", 65535, RAMP * np.int64(257))), ".pgm"),
    "12 bits pgm": (
        lambda p: p.with_suffix(".pgm").write_bytes(portable("P5", 4095, np.rint(RAMP * (4095 / 255)))), ".pgm",
    ),
    "15 levels pgm": (lambda p: p.with_suffix(".pgm").write_bytes(portable("P5", 15, RAMP // 17)), ".pgm"),
    "10 bits ppm": (
        lambda p: p.with_suffix(".ppm").write_bytes(
            portable("P6", 1023, np.repeat(np.rint(RAMP * (1023 / 255))[..., None], 3, -1))
        ), ".ppm",
    ),
    "plain 12 bits": (
        lambda p: p.with_suffix(".pgm").write_text(
            "P2\n16 16\n4095\n" + " ".join(str(int(v)) for v in np.rint(RAMP * (4095 / 255)).ravel())
        ), ".pgm",
    ),
    "palette": (lambda p: Image.fromarray(RAMP).convert("P").save(p.with_suffix(".png")), ".png"),
    "opaque alpha": (lambda p: Image.fromarray(RAMP).convert("LA").save(p.with_suffix(".png")), ".png"),
    "named otherwise": (lambda p: Image.fromarray(RAMP).save(p.with_suffix(".jpg"), "PNG"), ".jpg"),
    "bmp": (lambda p: Image.fromarray(RAMP).save(p.with_suffix(".bmp")), ".bmp"),
    "webp": (lambda p: Image.fromarray(RAMP).convert("RGB").save(p.with_suffix(".webp"), lossless=True), ".webp"),
}  # fmt: skip


@pytest.mark.parametrize("kind", GREY)
@pytest.mark.parametrize("grey", [False, True])
def test_grey_values_keep_their_meaning(tmp_path: Path, kind: str, grey: bool) -> None:
    """16 bits were cut at 255, so all was white. Must fail when such pictures go through a plain convert() (tried)."""
    write, suffix = GREY[kind]
    write(tmp_path / "x")
    found, remarks = pixels((tmp_path / "x").with_suffix(suffix), grey)
    assert found.shape == (16, 16, 1 if grey else 3) and not remarks
    np.testing.assert_array_equal(found, np.broadcast_to(RAMP[..., None], found.shape))


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    for suffix in (".png", ".pbm"):
        Image.fromarray(RAMP > 100).save(tmp_path / f"x{suffix}")
        found, _ = pixels(tmp_path / f"x{suffix}", grey=True)
        np.testing.assert_array_equal(found[..., 0], np.where(RAMP > 100, 255, 0))


def test_sixteen_bits_of_colour(tmp_path: Path) -> None:
    (tmp_path / "x.ppm").write_bytes(portable("P6", 65535, COLOURS * np.int64(257)))
    np.testing.assert_array_equal(pixels(tmp_path / "x.ppm")[0], COLOURS)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_exif_orientation_is_followed(tmp_path: Path, orientation: int, suffix: str) -> None:
    """Oracle: Pillow's own exif_transpose. Must fail when any entry of the table is another turn (tried: 5, 6)."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(COLOURS[:12]).save(tmp_path / f"x{suffix}", exif=exif)
    found, _ = pixels(tmp_path / f"x{suffix}")
    with Image.open(tmp_path / f"x{suffix}") as picture:
        expected = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
    np.testing.assert_array_equal(found, expected)
    assert found.shape == ((12, 16, 3) if orientation < 5 else (16, 12, 3))


def hidden_colours(mode: str) -> Image.Image:
    """Red everywhere, on the left half under transparent pixels."""
    layer = np.zeros((8, 8, 4), np.uint8)
    layer[..., 0], layer[:, 4:, 3] = 255, 255
    picture = Image.fromarray(layer)
    return picture if mode == "RGBA" else picture.quantize(4) if mode == "P" else picture.convert(mode)


@pytest.mark.parametrize("mode", ["RGBA", "P", "LA"])
def test_transparent_pixels_are_white_and_that_is_said(tmp_path: Path, mode: str) -> None:
    """Must fail when alpha is dropped: the colours below, which nobody sees, come to light (tried)."""
    hidden_colours(mode).save(tmp_path / "x.png")
    found, remarks = pixels(tmp_path / "x.png")
    assert (found[:, :4] == 255).all() and (found[:, 4:, 1] < 100).all()
    assert remarks == ["1 of 1 pictures: transparent pixels are laid on white"]


def test_a_transparent_colour_and_a_transparent_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 4), (9, 8, 7)).save("key.png", transparency=(9, 8, 7))
    Path("deep16.png").write_bytes(deep_with_a_clear_value())
    found, remarks = pixels(Path("key.png"))
    assert (found == 255).all() and remarks
    deep, remarks = pixels(Path("deep16.png"), grey=True)
    np.testing.assert_array_equal(deep[..., 0], np.where(RAMP == 17, 255, RAMP))
    assert remarks


def test_what_is_done_to_pictures_is_said(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 4), (value,) * 3) for value in (10, 20)]
    for suffix in (".png", ".webp"):
        frames[0].save(tmp_path / f"x{suffix}", save_all=True, append_images=frames[1:], lossless=True)
        found, remarks = pixels(tmp_path / f"x{suffix}")
        assert (found == 10).all() and remarks == ["1 of 1 pictures: animated, the first frame is read"]
    Image.new("CMYK", (4, 4), (0, 0, 0, 0)).save(tmp_path / "x.jpg")
    found, remarks = pixels(tmp_path / "x.jpg")
    assert (found > 250).all() and "print (CMYK)" in remarks[0]
    Image.fromarray(RAMP.astype(np.uint16) * 16).save(tmp_path / "dim.png")  # 12 bits of a camera, kept in 16
    _, remarks = pixels(tmp_path / "dim.png")
    assert "brightest value of the pictures with 16 bits is 4080 of 65535, so that at most 17 of 256" in remarks[0]


def _colours_of_16_bits() -> bytes:
    """A PNG of 2 x 2 pixels, which Pillow reads and does not write."""
    content = b"\x89PNG\r\n\x1a\n"
    rows = b"".join(b"\0" + struct.pack(">6H", *range(60_000, 60_006)) for _ in range(2))
    header = struct.pack(">IIBBBBB", 2, 2, 16, 2, 0, 0, 0)
    for name, chunk in ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")):
        content += struct.pack(">I", len(chunk)) + name + chunk + struct.pack(">I", zlib.crc32(name + chunk))
    return content


@pytest.mark.parametrize("suffix", [".png", ".pgm", "colour.png"])
def test_bits_that_are_not_kept_are_said(tmp_path: Path, suffix: str) -> None:
    """Where 8 of them do not say the same; those that do are in GREY above. Must fail when nobody counts (tried)."""
    path, deep = tmp_path / f"x{suffix}", RAMP.astype(np.uint16) * 257
    deep[0, 1] += 3
    if suffix == ".pgm":
        path.write_bytes(portable("P5", 65535, deep))
    elif suffix == ".png":
        Image.fromarray(deep).save(path)
    else:
        path.write_bytes(_colours_of_16_bits())
    _, remarks = pixels(path, grey=suffix != "colour.png")
    assert remarks == ["1 of 1 pictures: of more than 8 bits to a value 8 are kept; features in an .npz keep all"]


def test_the_order_of_the_bytes_of_a_pgm(tmp_path: Path) -> None:
    values = np.rint(RAMP * (4095 / 255))
    (tmp_path / "x.pgm").write_bytes(portable("P5", 4095, values, "<"))
    found, remarks = pixels(tmp_path / "x.pgm", grey=True)
    np.testing.assert_array_equal(found[..., 0], RAMP)
    assert "wrong order" in remarks[0]
    for white, brightest in ((4095, 0x1FFF), (15, 16)):
        (tmp_path / "x.pgm").write_bytes(portable("P5", white, np.full((4, 4), brightest)))
        with pytest.raises(UsageError, match=rf"values up to \d+, but says that white is {white}"):
            pixels(tmp_path / "x.pgm")


# ---- files that are not what they say


def bomb(width: int, height: int) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    )


def chunk_bomb() -> bytes:
    """A comment of 100 kB that unpacks to 100 MB."""
    body = b"Comment\0\0" + zlib.compress(bytes(100_000_000), 1)
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    content = bomb(8, 8)
    return content[:33] + chunk + content[33:]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n", "its content is no picture of JPEG, PNG"),
        (b"GIF89a", "its content is no picture"),
        (b"II*\0", "its content is no picture"),
        (b"", "its content is no picture"),
        (b"<svg></svg>", "its content is no picture"),
        (b"Pf\n2 2\n-1.0\n" + bytes(16), "floating-point values"),
        (b"P5\n4 4\n4095\n" + bytes(20), "truncated or corrupt"),
        (b"P5\n4 4\n70000\n" + bytes(32), "its content is no picture|truncated or corrupt"),
        (b"P2\n2 2\n4095\n1 2 3 5000\n", "truncated or corrupt"),
        (bomb(2000, 8), "2000x8 pixels; the limit is 1024x1024"),
        (bomb(10_000, 10_000), "10000x10000 pixels; the limit is 1024x1024"),
        (bomb(60_000, 60_000), "the limit is 1024x1024"),
        (bomb(500, 500), "truncated or corrupt"),
        (chunk_bomb(), "truncated or corrupt"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """An EPS called .png started Ghostscript. Must fail when all formats of Pillow are opened (tried)."""
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        pixels(tmp_path / "x.png")


def test_no_other_program_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/gs-ran\nexit 1\n")
    (tools / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    Image.new("RGB", (16, 16)).save(tmp_path / "x.eps")
    shutil.copy(tmp_path / "x.eps", folder(tmp_path / "p", "a", "b") / "a" / "x_3.png")
    with pytest.raises(UsageError, match=r"x_3.png: its content is no picture"):
        load_data(tmp_path / "p")
    assert not (tmp_path / "gs-ran").exists()


def test_damaged_pictures_never_give_a_traceback(tmp_path: Path) -> None:
    """Every kind of file, cut or with bytes exchanged: pixels of its size, or one sentence."""
    draw = random.Random(0)
    refused = 0
    for suffix in (".png", ".jpg", ".bmp", ".webp", ".ppm"):
        Image.fromarray(COLOURS).save(tmp_path / f"x{suffix}")
        content = (tmp_path / f"x{suffix}").read_bytes()
        for _ in range(60):
            damaged = bytearray(content)
            for _ in range(draw.randint(1, 4)):
                damaged[draw.randrange(min(len(damaged), 400))] = draw.randrange(256)
            (tmp_path / f"x{suffix}").write_bytes(damaged[: draw.choice((len(damaged), draw.randrange(len(damaged))))])
            try:
                assert pixels(tmp_path / f"x{suffix}")[0].dtype == np.uint8
            except UsageError as problem:
                assert f"x{suffix}" in str(problem)
                refused += 1
    assert refused > 100


@pytest.mark.parametrize("kind", ["fifo", "socket", "device", "folder", "dangling"])
def test_what_is_no_file_is_not_opened(tmp_path: Path, kind: str) -> None:
    path = folder(tmp_path / "p", "a", "b") / "a" / "x_3.png"
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listening:
        {
            "fifo": lambda: os.mkfifo(path), "socket": lambda: listening.bind(str(path)), "folder": path.mkdir,
            "device": lambda: path.symlink_to("/dev/zero"), "dangling": lambda: path.symlink_to("nowhere"),
        }[kind]()  # fmt: skip
        if kind == "folder":
            save(path / "x.png")
            with pytest.raises(UsageError, match=r"1 picture in folders within a class folder.*1 a/x_3.png/"):
                load_data(tmp_path / "p")
            return
        with pytest.raises(UsageError, match=r"is a FIFO|is a socket|is a device|No such file"):
            load_data(tmp_path / "p")


# ---- folders


def test_pictures_of_several_sizes(tmp_path: Path) -> None:
    save(folder(tmp_path, "a", "b") / "b" / "x_3.png", side=9)
    with pytest.raises(UsageError, match=r"x_3.png: is 9x9, but .*x_0.png is 8x8; all pictures .* nothing is done"):
        load_data(tmp_path)


def renamed(a: Path, b: str) -> None:
    a.rename(a.with_name(b))


LOST: dict[str, tuple[Callable[[Path], object], str]] = {
    "a format": (lambda p: renamed(p / "a" / "x_0.png", "x_0.TIF"), r"1 picture of a format .*1 a/\*.tif; legal"),
    "a whole class": (
        lambda p: [renamed(p / "b" / f"x_{i}.png", f"x_{i}.gif") for i in range(5)], r"5 pictures .*5 b/\*.gif"
    ),
    "an empty class": (lambda p: (p / "c").mkdir(), r"there is no picture of c; put some there, or remove"),
    "a class of text": (lambda p: ((p / "c").mkdir(), (p / "c" / "x.txt").write_text("")), "there is no picture of c"),
    "a level more": (lambda p: save(p / "a" / "2019" / "x.png"), r"1 picture in folders .*would be lost: 1 a/2019/"),
    "a level too much": (
        lambda p: (folder(p / "all", "a", "b"), shutil.rmtree(p / "a"), shutil.rmtree(p / "b")),
        r"found \['all'\]; class folders lie a level deeper, point --data .in Python data=. to .*all",
    ),
    "too few": (
        lambda p: [(p / name / f"x_{i}.png").unlink() for name in "ab" for i in range(1, 5)],
        "of 2 pictures none would be for the test, which takes every fifth",
    ),
    "one class": (lambda p: shutil.rmtree(p / "a"), r"at least two classes, found \['b'\]$"),
    "a name": (lambda p: renamed(p / "a", "a\x1b[2Jb"), "cannot be the name of a file or folder"),
    "a name in another encoding": (lambda p: renamed(p / "a", os.fsdecode(b"\xff")), "cannot be the name"),
}  # fmt: skip


@pytest.mark.parametrize("loss", LOST)
def test_no_picture_is_lost_without_a_word(tmp_path: Path, loss: str) -> None:
    """Must fail when files of other formats are left out, or empty folders become classes (both tried)."""
    harm, message = LOST[loss]
    harm(folder(tmp_path, "a", "b"))
    with pytest.raises(UsageError, match=message):
        load_data(tmp_path)


SPLITS: dict[str, tuple[Callable[[Path], object], str]] = {
    "another class": (
        lambda p: renamed(p / "test" / "dog", "dogs"),
        "5 of 10 pictures of classes that train/ has not: 5 dogs; train/ has cat, dog",
    ),
    "another case": (lambda p: renamed(p / "test" / "dog", "Dog"), r"'Dog' and 'dog' differ in case or Unicode form"),
    "val": (lambda p: renamed(p / "test", "val"), "test/ with class folders is missing, there are train/, val/"),
    "no test": (lambda p: shutil.rmtree(p / "test"), r"test/ .* is missing, there are train/; .*every fifth"),
    "no train": (lambda p: shutil.rmtree(p / "train"), "train/ with class folders is missing, there are test/"),
    "no classes": (
        lambda p: [shutil.rmtree(p / s / c) for s in ("train", "test") for c in ("cat", "dog")],
        "no class folders in test/, train/",
    ),
    "a format": (lambda p: renamed(p / "test" / "dog" / "x_0.png", "x_0.heic"), r"test: 1 picture of a format"),
}  # fmt: skip


@pytest.mark.parametrize("case", SPLITS)
def test_training_and_test_have_the_same_classes(tmp_path: Path, case: str) -> None:
    """Must fail when classes are taken from train/ alone: the others are then left out (tried)."""
    harm, message = SPLITS[case]
    for split in ("train", "test"):
        folder(tmp_path / split, "cat", "dog")
    harm(tmp_path)
    with pytest.raises(UsageError, match=message):
        load_data(tmp_path)


def test_what_is_left_out_is_named_with_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also when the set comes from the cache. Must fail without the remarks (tried)."""
    top = tmp_path / "mine"
    for split in ("train", "test"):
        folder(top / split, "cat", "dog")
    for name in ("train/cat/a.txt", "train/cat/b.txt", "train/dog/c.npy", "train/dog/._x_0.png", "test/dog/LICENCE"):
        (top / name).write_text("x")
    for name in ("train/dog/Thumbs.db", "train/dog/.DS_Store"):
        (top / name).write_text("of the system, which nobody misses")
    for name in ("__MACOSX", "val", ".git"):
        (top / name).mkdir()
    save(top / "preview.png")
    for path in (top / "test" / "cat").iterdir():
        path.unlink()
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            assert main(["data", "check", str(top)]) == 0
        said = capsys.readouterr()
        lines = said.err.splitlines()
        assert "2 classes: cat, dog" in said.out and "train: 10 examples, 5..5 per class" in said.out
        assert any("being no pictures: 2 .txt" in line and "1 hidden" in line for line in lines)
        assert any("1 picture beside the class folders left out" in line for line in lines)
        assert any("not read: __MACOSX/, val/" in line for line in lines)
        assert any("1 of 2 classes (cat) have no test example" in line for line in lines)
        assert all(line.startswith("neurosbd: warning: mine: ") for line in lines)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    data = load_data(folder(tmp_path, "car", "plane", "train"))
    assert data.classes == ("car", "plane", "train") and len(data.train) == 12


def test_the_order_depends_on_names_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ties of the natural key fell as the directory has them. Must fail when folders are not sorted (tried)."""
    names = [
        "x_1.png",
        "x_01.png",
        "x_1.jpg",
        "x_001.png",
        "x_2.png",
        "x_10.png",
        "x_².png",
        "a.png",
        "a.bmp",
        "2_a1.png",
    ]
    for k, name in enumerate(("b", "a")):
        for i, file in enumerate(names):
            save(tmp_path / "mine" / name / file, 100 * k + 7 * i)
    listed = Path.iterdir
    found = []
    for seed in range(4):
        monkeypatch.setenv("NEUROSBD_CACHE", str(tmp_path / f"cache-{seed}"))

        def shuffled(path: Path, seed: int = seed) -> list[Path]:  # type: ignore[misc]
            entries = sorted(listed(path))
            random.Random(seed).shuffle(entries)
            return entries

        monkeypatch.setattr(Path, "iterdir", shuffled)
        data = load_data(tmp_path / "mine")
        found.append((data.train.values.copy(), data.test.labels.copy()))
    for values, labels in found[1:]:
        np.testing.assert_array_equal(values, found[0][0])
        np.testing.assert_array_equal(labels, found[0][1])


def test_names_in_several_unicode_forms(tmp_path: Path) -> None:
    """The same folder from macOS and from Linux has the same order; twins are two classes, which is said."""
    forms = [unicodedata.normalize(form, "é") for form in ("NFC", "NFD")]
    orders = []
    for form in forms:
        top = folder(tmp_path / f"{len(form)}", f"{form}a", "eb", "f")
        orders.append([unicodedata.normalize("NFC", name) for name in load_data(top).classes])
    assert orders[0] == orders[1]
    twins = folder(tmp_path / "twins", *forms, "Cat", "cat")
    with pytest.warns(UsageWarning, match="differ in case or Unicode form only and are two classes here"):
        assert len(load_data(twins).classes) == 4


def test_a_folder_for_a_model_with_files_of_its_own(tmp_path: Path) -> None:
    folder(tmp_path / "mine", "a", "b")
    assert resolve_data("mnist", str(tmp_path / "mine")) == (str(tmp_path / "mine"), None)
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="neurosbd data get mnist"):
        resolve_data("mnist", str(tmp_path / "empty"))

"""Sets that are folders of picture files: Tiny ImageNet-200 and a user's own class folders."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neurosbd.datasets.definition import DatasetFile
from neurosbd.datasets.samples import Samples, Splits
from neurosbd.errors import UsageError

SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".pgm", ".ppm"}
_LARGEST_SIDE = 1024  # pixels; larger pictures are not what these networks are for


def read_tiny_imagenet(definition: DatasetFile, folder: Path) -> Splits:
    """Official layout: wnids.txt, train/<wnid>/images/*.JPEG, val/images, val/val_annotations.txt.

    The validation set is the test set, since the labels of the real one were never published. Any
    number of training images will do. Classes are numbered in sorted order of their wnid.

    Source: Stanford CS231n, Tiny ImageNet-200.
    """
    wnids = sorted((folder / "wnids.txt").read_text().split())
    number = {wnid: i for i, wnid in enumerate(wnids)}
    paths, labels = [], []
    for wnid in wnids:
        images = sorted((folder / "train" / wnid / "images").glob("*.JPEG"), key=_natural)
        paths += images
        labels += [number[wnid]] * len(images)
    annotations = folder / "val" / "val_annotations.txt"
    rows = [line.split("\t") for line in annotations.read_text().splitlines() if line]
    unknown = next((row for row in rows if len(row) < 2 or row[1] not in number), None)
    if unknown:
        raise UsageError(f"{annotations}: no class of wnids.txt in the line {unknown}")
    val = [folder / "val" / "images" / row[0] for row in rows]
    train = Samples(_decode(paths, definition), np.array(labels, np.int64))
    test = Samples(_decode(val, definition), np.array([number[row[1]] for row in rows], np.int64))
    words = dict(line.split("\t", 1) for line in (folder / "words.txt").read_text().splitlines() if "\t" in line)
    return Splits(train, test, tuple(words.get(wnid, wnid).split(",")[0] for wnid in wnids))


def read_folder(definition: DatasetFile, folder: Path) -> Splits:
    """A user's own pictures: train/<class>/* and test/<class>/*, all of one size.

    Without train/ and test/, the class folders lie at the top and every fifth picture is a test one.
    """
    if (folder / "train").is_dir() and (folder / "test").is_dir():
        classes = _classes(folder / "train")
        train, test = (_gather(folder / split, classes) for split in ("train", "test"))
    else:
        classes = _classes(folder)
        everything = _gather(folder, classes)
        train = [pair for i, pair in enumerate(everything) if i % 5 != 4]
        test = everything[4::5]
    return Splits(_labelled(train, definition), _labelled(test, definition), tuple(classes))


def has_class_folders(folder: Path) -> bool:
    """Whether `read_folder` would find pictures here."""
    top = folder / "train" if (folder / "train").is_dir() else folder
    return any(p.suffix.lower() in SUFFIXES for child in top.iterdir() if child.is_dir() for p in child.iterdir())


def _classes(folder: Path) -> list[str]:
    names = sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    if len(names) < 2:
        raise UsageError(f"{folder}: needs a folder for each of at least two classes, found {names}")
    return names


def _gather(folder: Path, classes: Sequence[str]) -> list[tuple[Path, int]]:
    found = []
    for label, name in enumerate(classes):
        if (folder / name).is_dir():
            pictures = [p for p in (folder / name).iterdir() if p.suffix.lower() in SUFFIXES]
            found += [(path, label) for path in sorted(pictures, key=_natural)]
    return found


def _labelled(pairs: list[tuple[Path, int]], definition: DatasetFile) -> Samples:
    return Samples(_decode([p for p, _ in pairs], definition), np.array([y for _, y in pairs], np.int64))


def _natural(path: Path) -> tuple[str, int]:
    """Sort key that puts x_2 before x_10."""
    digits = "".join(c for c in path.stem.rsplit("_", 1)[-1] if c.isdigit())
    return path.stem.rsplit("_", 1)[0], int(digits or 0)


def _decode(paths: Sequence[Path], definition: DatasetFile) -> np.ndarray:
    """Pictures as uint8 [N, height, width, channels]; all must have the size of the first."""
    if not paths:
        return np.empty((0, 1, 1, 3), np.uint8)
    first = _picture(paths[0], definition)
    images = np.empty((len(paths), *first.shape), np.uint8)
    for i, path in enumerate(paths):
        picture = _picture(path, definition)
        if picture.shape != first.shape:
            raise UsageError(
                f"{path}: is {picture.shape[1]}x{picture.shape[0]}, but {paths[0].name} is "
                f"{first.shape[1]}x{first.shape[0]}; all pictures of a set must have one size"
            )
        images[i] = picture
    return images


def _picture(path: Path, definition: DatasetFile) -> np.ndarray:
    from PIL import Image, UnidentifiedImageError

    grey = definition.options.get("channels", 3) == 1
    try:
        with Image.open(path) as picture:
            if max(picture.size) > _LARGEST_SIDE:
                raise UsageError(
                    f"{path}: {picture.size[0]}x{picture.size[1]} pixels; the limit is {_LARGEST_SIDE}; scale it down"
                )
            pixels = np.asarray(picture.convert("L" if grey else "RGB"))
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, SyntaxError) as problem:
        raise UsageError(f"{path}: truncated or corrupt picture ({problem})") from None
    return pixels[..., None] if grey else pixels

"""Sets that are folders of picture files: Tiny ImageNet-200 and a user's own class folders."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from neurosbd.datasets.definition import DatasetFile
from neurosbd.datasets.pixels import Seen, read_pictures
from neurosbd.datasets.samples import Samples, Splits
from neurosbd.errors import DATA, UsageError, warn
from neurosbd.files.library import path_component
from neurosbd.files.writing import regular

SUFFIXES = {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".pgm", ".pbm", ".ppm", ".pnm"}
# Pictures to any user, but not read here.
_FOREIGN = {
    ".tif", ".tiff", ".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".eps", ".psd", ".dng", ".cr2",
    ".nef", ".arw", ".tga", ".ico", ".dcm", ".czi",
}  # fmt: skip
_OF_THE_SYSTEM = {".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX", "@eaDir", "lost+found"}
_SPLITS = {"train", "test", "val", "valid", "validation", "dev", "eval"}
_SHOWN = 8  # names in a message


@dataclass
class _Found:
    """What lies in the class folders of a split.

    pictures: with the number of their class.
    foreign: pictures in formats that are not read, by class folder and suffix.
    deeper: pictures in folders within a class folder, by that folder.
    ignored: files that are no pictures, by suffix.
    """

    pictures: list[tuple[Path, int]] = field(default_factory=list)
    foreign: Counter[str] = field(default_factory=Counter)
    deeper: Counter[str] = field(default_factory=Counter)
    ignored: Counter[str] = field(default_factory=Counter)

    def without(self, classes: Sequence[str]) -> list[str]:
        """Classes that have no picture."""
        there = {label for _, label in self.pictures}
        return [name for label, name in enumerate(classes) if label not in there]


def read_folder(definition: DatasetFile, folder: Path) -> Splits:
    """A user's own pictures: train/<class>/* and test/<class>/*, all of one size.

    Without train/ and test/, the class folders lie at the top and every fifth picture is a test one. Classes and
    pictures are numbered in the order of their names, never in that of the directory.

    Raises:
        UsageError: if pictures would be lost: of formats that are not read, in folders within a class, of classes that
            only test/ has; if a class has none to learn from; or if one of train/ and test/ is missing.
    """
    tops = _tops(folder)
    classes = _classes(tops[0])
    found = [_gather(top, classes) for top in tops]
    for top, split in zip(tops, found, strict=True):
        _refuse_losses(top, split)
        _refuse_other_classes(top, classes, split)
    if found[0].without(classes):
        raise UsageError(
            f"{tops[0]}: there is no picture of {_shown(found[0].without(classes))}; put some there, or remove the "
            f"folder"
        )
    train, test = (split.pictures for split in found) if len(tops) == 2 else _every_fifth(folder, found[0].pictures)
    seen = Seen()
    splits = _labelled(train, definition, seen), _labelled(test, definition, seen)
    remarks = _unread(folder, tops, found) + _lookalikes(classes) + seen.remarks(len(train) + len(test))
    return Splits(*splits, tuple(classes), remarks=tuple(f"{definition.name}: {remark}" for remark in remarks))


def read_tiny_imagenet(definition: DatasetFile, folder: Path) -> Splits:
    """Official layout: wnids.txt, train/<wnid>/images/*.JPEG, val/images, val/val_annotations.txt.

    The validation set is the test set, since the labels of the real one were never published. Any
    number of training images will do. Classes are numbered in sorted order of their wnid.

    Source: Stanford CS231n, Tiny ImageNet-200.
    """
    wnids = sorted({_named(wnid, folder / "wnids.txt") for wnid in _text(folder / "wnids.txt").split()})
    number = {wnid: i for i, wnid in enumerate(wnids)}
    train = [
        (path, number[wnid])
        for wnid in wnids
        for path in sorted(_entries(folder / "train" / wnid / "images"), key=_natural)
        if path.suffix == ".JPEG" and not path.name.startswith(".")
    ]
    annotations = folder / "val" / "val_annotations.txt"
    rows = [line.split("\t") for line in _text(annotations).splitlines() if line]
    unknown = next((row for row in rows if len(row) < 2 or row[1] not in number), None)
    if unknown:
        raise UsageError(f"{annotations}: no class of wnids.txt in the line {unknown}")
    val = [(folder / "val" / "images" / _named(row[0], annotations), number[row[1]]) for row in rows]
    words = dict(line.split("\t", 1) for line in _text(folder / "words.txt").splitlines() if "\t" in line)
    classes = tuple(words.get(wnid, wnid).split(",")[0] for wnid in wnids)
    seen = Seen()
    return Splits(_labelled(train, definition, seen), _labelled(val, definition, seen), classes)


def has_class_folders(folder: Path) -> bool:
    """Whether `read_folder` would find pictures here."""
    top = folder / "train" if _holds_folders(folder / "train") else folder
    return any(_is_picture(entry) for child in _folders(top) for entry in _entries(child))


def read_unsorted(folder: Path, grey: bool) -> tuple[np.ndarray, tuple[str, ...], tuple[str, ...], np.ndarray | None]:
    """Pictures that are for no training, all of one size, in the order of names: those in test/, or in the folder.

    Returns:
        Pictures uint8 [N, height, width, channels]; their names below the folder; the classes that have a folder, and
        the number of each picture's class, None if the pictures lie there without folders.
    Raises:
        UsageError: if there is none, or pictures would be lost: of formats that are not read, or in deeper folders.
    """
    top = folder / "test" if _holds_folders(folder / "test") else folder
    classes = tuple(_named(path.name, top) for path in _folders(top))
    found = _gather(top, classes) if classes else _gather(top.parent, (top.name,))
    _refuse_losses(top, found)
    beside = sum(_is_picture(entry) for entry in _entries(top)) if classes else 0
    if classes and beside:
        raise UsageError(f"{top}: {_many(beside)} beside the class folders; put all into folders, or none")
    if not found.pictures:
        raise UsageError(f"{folder}: there is no picture in it; legal are {', '.join(sorted(SUFFIXES))}")
    seen = Seen()
    pictures = read_pictures([path for path, _ in found.pictures], grey, seen)
    for remark in seen.remarks(len(pictures)):
        warn(f"{folder}: {remark}")
    names = tuple(str(path.relative_to(folder)) for path, _ in found.pictures)
    return pictures, names, classes, np.array([label for _, label in found.pictures], np.int64) if classes else None


def _tops(folder: Path) -> list[Path]:
    """The folders of the classes: train/ and test/, or the folder itself."""
    names = [path.name for path in _folders(folder)]
    splits = [name for name in ("train", "test") if _holds_folders(folder / name)]
    if len(splits) == 2:
        return [folder / name for name in splits]
    here = ", ".join(f"{name}/" for name in names)
    if not splits:
        if names and set(names) <= _SPLITS:
            raise UsageError(
                f"{folder}: no class folders in {here}; put the pictures into train/<class>/, test/<class>/"
            )
        return [folder]
    missing = "train" if splits == ["test"] else "test"
    raise UsageError(
        f"{folder}: {missing}/ with class folders is missing, there are {here}; rename the folder that is meant, or "
        f"point {DATA} to {folder / splits[0]}: every fifth picture of it is a test one then"
    )


def _classes(top: Path) -> list[str]:
    folders = _folders(top)
    names = [path.name for path in folders]
    if len(names) < 2:
        within = [path for path in folders if len(_folders(path)) > 1]
        deeper = f"; class folders lie a level deeper, point {DATA} to {within[0]}" if within else ""
        raise UsageError(f"{top}: needs a folder for each of at least two classes, found {names}{deeper}")
    return [_named(name, top) for name in names]


def _gather(top: Path, classes: Sequence[str]) -> _Found:
    """Pictures of the classes, in the order of classes and of names."""
    found = _Found()
    for label, name in enumerate(classes):
        pictures = []
        for path in _entries(top / name) if (top / name).is_dir() else []:
            if path.name in _OF_THE_SYSTEM:
                continue
            if path.name.startswith("."):
                found.ignored["hidden"] += 1
            elif path.is_dir():
                found.deeper[f"{name}/{path.name}/"] += sum(_is_picture(entry) for entry in path.rglob("*"))
            elif path.suffix.lower() in SUFFIXES:
                pictures.append((regular(path), label))
            elif _is_picture(path):
                found.foreign[f"{name}/*{path.suffix.lower()}"] += 1
            else:
                found.ignored[path.suffix.lower() or "without a suffix"] += 1
        found.pictures += sorted(pictures, key=lambda pair: _natural(pair[0]))
    return found


def _refuse_losses(top: Path, found: _Found) -> None:
    if found.foreign:
        raise UsageError(
            f"{top}: {_many(found.foreign.total())} of a format that is not read: {_counted(found.foreign)}; legal "
            f"are {', '.join(sorted(SUFFIXES))}: convert them (.png takes 16 bits), or take them out"
        )
    if found.deeper.total():
        raise UsageError(
            f"{top}: {_many(found.deeper.total())} in folders within a class folder would be lost: "
            f"{_counted(found.deeper)}; move them up, or point {DATA} to the folder that holds the class folders"
        )


def _refuse_other_classes(top: Path, classes: Sequence[str], found: _Found) -> None:
    """Refuse a split with classes that the training split does not have."""
    others = [path.name for path in _folders(top) if path.name not in classes]
    strangers = Counter(others[label] for _, label in _gather(top, others).pictures)
    if not strangers:
        return
    twins = [(a, b) for a in strangers for b in classes if _folded(a) == _folded(b)]
    twin = f"; {twins[0][0]!r} and {twins[0][1]!r} differ in case or Unicode form only" if twins else ""
    raise UsageError(
        f"{top}: {strangers.total()} of {_many(strangers.total() + len(found.pictures))} of classes that "
        f"train/ has not: {_counted(strangers)}; train/ has {_shown(classes)}{twin}; rename or remove those folders"
    )


def _unread(folder: Path, tops: Sequence[Path], found: Sequence[_Found]) -> list[str]:
    """Remarks on what was left out."""
    remarks = []
    ignored = sum((split.ignored for split in found), Counter())
    if ignored:
        remarks.append(f"left out of the class folders, being no pictures: {_counted(ignored)}")
    beside = sum(_is_picture(path) and path.is_file() for top in {folder, *tops} for path in _entries(top))
    if beside:
        remarks.append(f"{_many(beside)} beside the class folders left out, being of no class")
    others = {path.name for top in {folder, *tops} for path in _entries(top) if path.name in _OF_THE_SYSTEM}
    others = {name for name in others if "." not in name}
    others |= {path.name for path in _folders(folder)} - {"train", "test"} if len(tops) == 2 else set()
    if others:
        remarks.append(f"not read: {_shown([f'{name}/' for name in sorted(others)])}")
    return remarks


def _lookalikes(classes: Sequence[str]) -> list[str]:
    return [
        f"the classes {a!r} and {b!r} differ in case or Unicode form only and are two classes here"
        for i, a in enumerate(classes) for b in classes[i + 1 :] if _folded(a) == _folded(b)
    ]  # fmt: skip


def _every_fifth(
    folder: Path, pictures: list[tuple[Path, int]]
) -> tuple[list[tuple[Path, int]], list[tuple[Path, int]]]:
    """Training and test pictures."""
    if len(pictures) < 5:
        raise UsageError(
            f"{folder}: of {_many(len(pictures))} none would be for the test, which takes every fifth; add some, or "
            f"make train/<class>/ and test/<class>/"
        )
    return [pair for i, pair in enumerate(pictures) if i % 5 != 4], pictures[4::5]


def _labelled(pairs: list[tuple[Path, int]], definition: DatasetFile, seen: Seen) -> Samples:
    pictures = read_pictures([path for path, _ in pairs], definition.options.get("channels", 3) == 1, seen)
    return Samples(pictures, np.array([label for _, label in pairs], np.int64))


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir(), key=lambda path: (_normal(path.name), path.name))
    except (OSError, ValueError) as problem:
        raise UsageError(f"{folder}: cannot be listed ({getattr(problem, 'strerror', None) or problem})") from None


def _folders(folder: Path) -> list[Path]:
    """Folders that a user may have made."""
    visible = (path for path in _entries(folder) if not path.name.startswith(".") and path.name not in _OF_THE_SYSTEM)
    return [path for path in visible if path.is_dir()]


def _holds_folders(folder: Path) -> bool:
    """Whether it is a split: a class that has its name would hold pictures."""
    return folder.is_dir() and bool(_folders(folder))


def _is_picture(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES | _FOREIGN and not path.name.startswith(".")


def _natural(path: Path) -> tuple[str, int]:
    """Sort key that puts x_2 before x_10. What it does not tell apart, x_1 and x_01, stays in the order of names."""
    stem, _, last = _normal(path.stem).rpartition("_")
    return stem or last, int("".join(c for c in last if c.isdecimal()) or 0)


def _normal(name: str) -> str:
    """One spelling of what systems write in several Unicode forms."""
    return unicodedata.normalize("NFC", name)


def _folded(name: str) -> str:
    return _normal(name).casefold()


def _named(name: str, where: Path) -> str:
    """A name that is one folder or file."""
    try:
        return path_component(name)
    except UsageError as problem:
        raise UsageError(f"{where}: {problem}") from None


def _text(path: Path) -> str:
    try:
        return regular(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as problem:
        raise UsageError(f"{path}: is no text in UTF-8 ({problem}); unpack it again") from None
    except OSError as problem:
        raise UsageError(f"{path}: {problem.strerror}") from None


def _counted(counts: Counter[str]) -> str:
    """'10 dog/*.tif, 2 cat/*.gif'."""
    return _shown([f"{count} {what}" for what, count in counts.most_common() if count])


def _shown(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:_SHOWN]) + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")


def _many(pictures: int) -> str:
    return "1 picture" if pictures == 1 else f"{pictures:,} pictures"

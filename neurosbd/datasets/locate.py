"""Where the files of a data set are: a path of the user's, NEUROSBD_DATA, or the download folder."""

import os
from pathlib import Path

import platformdirs

from neurosbd.datasets.archives import LARGEST, unpack
from neurosbd.datasets.definition import DatasetFile
from neurosbd.errors import DATA, UsageError
from neurosbd.files import library
from neurosbd.files.writing import cache_folder, legal_path, regular

ROOT_VARIABLE = "NEUROSBD_DATA"
_DENSEST = 32  # times its published size; pictures and events stay below 4


def download_folder() -> Path:
    """Where `neurosbd data get` puts files: NEUROSBD_DATA, or the user's data folder."""
    return Path(os.environ.get(ROOT_VARIABLE) or platformdirs.user_data_dir("neurosbd"))


def locate(definition: DatasetFile, root: str | Path | None = None) -> Path:
    """The folder that holds every file of a data set.

    Args:
        definition: the data set.
        root: a folder of the user's (the only one searched), or none.

    Raises:
        UsageError: if a file is missing; says what was looked for, where, and how to get it.
    """
    if root is not None and not legal_path(root).exists():
        raise UsageError(f"{root}: there is no such file or folder")
    roots = [Path(root)] if root is not None else [library.folder("data"), download_folder()]
    nearly: list[Path] = []
    for top in roots:
        folders = list(dict.fromkeys((top / definition.folder, top, top / definition.name)))
        for folder in folders:
            if complete(definition, folder):
                return _plain(definition, folder)
        unpacked = _unpacked(definition, top)
        if unpacked is not None:
            return _plain(definition, unpacked)
        _refuse_pickles(definition, top)
        nearly += folders
    best = max(nearly, key=lambda folder: -len(missing(definition, folder)))
    gone = missing(definition, best)
    if len(gone) < len(required(definition)):
        raise UsageError(
            f"data set '{definition.name}' is not whole in {best}: {', '.join(gone[:5])} missing, "
            f"{len(required(definition)) - len(gone)} of {len(required(definition))} are there. {_remedy(definition)}"
        )
    wanted = ", ".join(required(definition)[:3]) or "class folders of pictures"
    raise UsageError(
        f"data set '{definition.name}' is not here. Looked for {wanted} in "
        f"{' and '.join(repr(str(r / definition.folder)) for r in roots)}. {_remedy(definition)}"
    )


def required(definition: DatasetFile) -> list[str]:
    """Names of the files a data set cannot do without."""
    return [name for names in definition.files.values() for name in names]


def complete(definition: DatasetFile, folder: Path) -> bool:
    """Whether all required files are in a folder."""
    return bool(required(definition)) and not missing(definition, folder)


def missing(definition: DatasetFile, folder: Path) -> list[str]:
    """Names of the required files that are not in a folder."""
    return [name for name in required(definition) if not actual(definition, folder, name).exists()]


def actual(definition: DatasetFile, folder: Path, name: str) -> Path:
    """The path of a file: as named, or packed if only that is there."""
    plain, packed = folder / name, folder / f"{name}{definition.packed}"
    return packed if packed.exists() and not plain.exists() else plain


def _plain(definition: DatasetFile, folder: Path) -> Path:
    """The folder, if every required entry in it is a file or a folder; nothing is opened."""
    for name in required(definition):
        path = actual(definition, folder, name)
        if not path.is_dir():
            regular(path)
    return folder


def _unpacked(definition: DatasetFile, top: Path) -> Path | None:
    """Unpack a published archive that lies in `top`, once, into the cache."""
    for item in definition.download:
        for archive in (top / item.filename, top / definition.name / item.filename):
            if not archive.is_file() or archive.suffix not in (".gz", ".zip") or archive.name in required(definition):
                continue
            stamp = f"{archive.stat().st_size}-{archive.stat().st_mtime_ns}"
            target = cache_folder() / "unpacked" / f"{definition.name}-{stamp}"
            if not complete(definition, target / definition.folder):  # not there yet, or no longer whole
                unpack(archive, target, min(LARGEST, _DENSEST * item.size))
            if complete(definition, target / definition.folder):
                return target / definition.folder
            raise UsageError(f"{archive}: does not hold {definition.folder}/{required(definition)[0]}; fetch it again")
    return None


def _refuse_pickles(definition: DatasetFile, top: Path) -> None:
    if definition.reader != "cifar" or not top.is_dir():
        return
    for pattern in ("*-python.tar.gz", "cifar-10-batches-py", "cifar-100-python"):
        for found in top.glob(pattern):
            raise UsageError(
                f"{found}: this is the Python version of the set, which is made of pickles. A pickle can run any code "
                f"when it is read, so it is not opened. Use the binary version. {_remedy(definition)}"
            )


def _remedy(definition: DatasetFile) -> str:
    if definition.download:
        return f"Run `neurosbd data get {definition.name}`, or point {DATA} or {ROOT_VARIABLE} to a copy."
    if definition.obtain:
        return f"{definition.obtain}; then point {DATA} or {ROOT_VARIABLE} to it."
    return f"Point {DATA} to it."

"""Unpack a downloaded archive where it cannot do harm."""

import shutil
import tarfile
import tempfile
import zipfile
import zlib
from pathlib import Path

from neurosbd.errors import UsageError

_LARGEST = 8 << 30  # bytes unpacked


def unpack(archive: Path, target: Path) -> Path:
    """Unpack a .tar.gz or .zip into `target`, whole or not at all.

    Members that would land outside, links, devices and archives above 8 GiB are refused.

    Raises:
        UsageError: if the archive is truncated, corrupt or hostile.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    workplace = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        (_unzip if archive.suffix == ".zip" else _untar)(archive, workplace)
        workplace.replace(target)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, zlib.error) as problem:
        raise UsageError(f"{archive}: truncated, corrupt or unsafe archive ({problem}); fetch it again") from None
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    return target


def _untar(archive: Path, target: Path) -> None:
    if not hasattr(tarfile, "data_filter"):
        raise UsageError(f"{archive}: this Python cannot unpack tar files safely; use 3.11.4 or later")
    with tarfile.open(archive) as tar:
        if sum(member.size for member in tar) > _LARGEST:
            raise UsageError(f"{archive}: unpacks to more than {_LARGEST >> 30} GiB; refused")
        tar.extractall(target, filter="data")


def _unzip(archive: Path, target: Path) -> None:
    root = target.resolve()
    with zipfile.ZipFile(archive) as zipped:
        if sum(member.file_size for member in zipped.infolist()) > _LARGEST:
            raise UsageError(f"{archive}: unpacks to more than {_LARGEST >> 30} GiB; refused")
        for member in zipped.infolist():
            if not (root / member.filename).resolve().is_relative_to(root):
                raise UsageError(f"{archive}: the member '{member.filename}' would land outside; refused")
        zipped.extractall(target)

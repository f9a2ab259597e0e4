"""Fetch published files: checked by size and sha256, resumed where they broke off."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from neurosbd.datasets.definition import DatasetFile, Download
from neurosbd.datasets.locate import download_folder
from neurosbd.errors import DATA, RunError, UsageError
from neurosbd.files.writing import legal_path, regular

if TYPE_CHECKING:
    import requests

_PATIENCE = 30.0  # s without a byte
_AGAIN = "run the same command again to go on from there"


def get(definition: DatasetFile, root: str | Path | None = None) -> list[Path]:
    """Download the files of a data set; what is there and intact is not fetched again.

    A download that breaks off leaves a .part file and goes on from there the next time. Nothing is written outside
    the folder NAME of the set in `root`.

    Raises:
        UsageError: if the set is not published, or the folder cannot be written.
        RunError: if a download fails, or what comes is not the published file (it is removed then).
    """
    if definition.obtain and not definition.download:
        raise UsageError(
            f"data set '{definition.name}' has no published sha256, so it is not fetched for you. {definition.obtain}"
        )
    if not definition.download:
        raise UsageError(f"data set '{definition.name}' needs no download")
    folder = legal_path(root) if root is not None else download_folder()
    target = folder / definition.name
    try:
        target.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or problem
        raise UsageError(f"{target}: cannot be written ({reason}); choose another folder with {DATA}") from None
    return [_fetch(item, target) for item in definition.download]


def _fetch(item: Download, target: Path) -> Path:
    import requests

    place, part = target / item.filename, target / f"{item.filename}.part"
    try:
        if place.exists() and _sha256(regular(place)) == item.sha256:
            return place
        resumed = _receive(item, part)
        if resumed and _sha256(part) != item.sha256:  # what lay there was not the beginning of this file
            part.unlink()
            _receive(item, part)
        found = _sha256(part)
        if found != item.sha256:
            raise _refused(item, part, f"its sha256 is {found}, published is {item.sha256}")
        os.replace(part, place)
    except requests.exceptions.InvalidSchema:
        raise RunError(
            f"{item.url}: leads to an address that is not https, or neither http nor https; refused"
        ) from None
    except requests.HTTPError as problem:
        raise RunError(f"{item.url}: the server does not give it ({problem}); nothing was fetched") from None
    except (requests.RequestException, OSError) as problem:
        raise RunError(f"{item.url}: download failed ({problem}); {_AGAIN}") from None
    return place


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _refused(item: Download, part: Path, reason: str) -> RunError:
    part.unlink(missing_ok=True)
    return RunError(f"{item.url}: the file that came is not the published one: {reason}; nothing was kept")


def _receive(item: Download, part: Path) -> bool:
    """Fill a .part file up to the published size; whether that went on from what lay there."""
    import requests

    if part.is_symlink():
        part.unlink()  # never written through
    if part.exists():
        regular(part)
    with part.open("ab") as out, requests.Session() as session:
        _claim(out, part)
        have = out.tell()
        if have == item.size:
            return True
        if item.url.startswith("https:"):
            session.adapters.pop("http://")  # a redirection never leaves https
        with _asked(session, item, have if have < item.size else 0) as answer:
            resumed = answer.status_code == requests.codes.partial_content
            if not resumed:
                out.seek(out.truncate(0))
            _copy(item, part, answer, out)
    return resumed


def _claim(out: BinaryIO, part: Path) -> None:
    """Refuse to write what another process is writing; the claim ends with the file."""
    try:
        import fcntl
    except ImportError:  # Windows
        return
    try:
        fcntl.flock(out, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise RunError(f"{part}: another process is fetching this file; wait for it, or stop it") from None


def _asked(session: "requests.Session", item: Download, have: int) -> "requests.Response":
    """The answer of the server: the rest if that can be used, else the whole.

    Bytes are counted as the file has them (identity): a rest of a compressed form could not be decoded.
    """
    headers = {"Accept-Encoding": "identity"}
    if have:
        answer = session.get(item.url, headers={**headers, "Range": f"bytes={have}-"}, stream=True, timeout=_PATIENCE)
        begins = answer.headers.get("Content-Range", "").startswith(f"bytes {have}-")
        if (answer.status_code == 206 and begins and not _encoded(answer.headers)) or answer.status_code == 200:
            return answer
        answer.close()
    answer = session.get(item.url, headers=headers, stream=True, timeout=_PATIENCE)
    answer.raise_for_status()
    return answer


def _encoded(headers: Mapping[str, str]) -> bool:
    return headers.get("Content-Encoding", "identity") != "identity"


def _copy(item: Download, part: Path, answer: "requests.Response", out: BinaryIO) -> None:
    """Append what comes, up to the published size and not a byte more."""
    from tqdm import tqdm

    have, kind = out.tell(), answer.headers.get("Content-Type", "of no type")
    length = answer.headers.get("Content-Length", "")
    if length.isdecimal() and not _encoded(answer.headers) and have + int(length) != item.size:
        raise _refused(item, part, f"{have + int(length):,} bytes ({kind}) are offered, {item.size:,} were published")
    bar = tqdm(total=item.size, initial=have, unit="B", unit_scale=True, desc=item.filename)
    with bar:
        for block in answer.iter_content(1 << 16):
            have += len(block)
            if have > item.size:
                raise _refused(item, part, f"more than the published {item.size:,} bytes come")
            out.write(block)
            bar.update(len(block))
    if have < item.size and kind.startswith("text/html"):
        raise _refused(item, part, f"a web page of {have:,} bytes")
    if have < item.size:
        raise RunError(f"{item.url}: ended after {have:,} of {item.size:,} bytes; {_AGAIN}")

"""Fetch published files: pooch for checking, with resume and progress."""

import os
from pathlib import Path
from typing import Any

from neurosbd.datasets.definition import DatasetFile, Download
from neurosbd.datasets.locate import download_folder
from neurosbd.errors import RunError, UsageError


def get(definition: DatasetFile, root: str | Path | None = None) -> list[Path]:
    """Download the files of a data set; what is there and intact is not fetched again.

    A download that breaks off leaves a .part file and goes on from there the next time.

    Raises:
        UsageError: if the set is not published, or the folder cannot be written.
        RunError: if a download fails or its sha256 is wrong (the file is removed then).
    """
    if definition.obtain and not definition.download:
        raise UsageError(
            f"data set '{definition.name}' has no published sha256, so it is not fetched for you. {definition.obtain}"
        )
    if not definition.download:
        raise UsageError(f"data set '{definition.name}' needs no download")
    folder = Path(root) if root is not None else download_folder()
    target = folder / definition.name
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise UsageError(
            f"{target}: cannot be written ({problem.strerror}); choose another folder with --data"
        ) from None
    return [_fetch(item, target) for item in definition.download]


def _fetch(item: Download, target: Path) -> Path:
    import logging

    import pooch
    import requests

    pooch.get_logger().setLevel(logging.WARNING)
    try:
        got = pooch.retrieve(
            item.url,
            known_hash=f"sha256:{item.sha256}",
            fname=item.filename,
            path=target,
            downloader=_Resuming(item, target),
        )
    except ValueError as problem:
        (target / f"{item.filename}.part").unlink(missing_ok=True)
        raise RunError(
            f"{item.url}: the file that came is not the published one ({problem}); nothing was kept"
        ) from None
    except (requests.RequestException, OSError) as problem:
        raise RunError(
            f"{item.url}: download failed ({problem}); run the same command again to go on from there"
        ) from None
    return Path(got)


class _Resuming:
    """A pooch downloader that goes on where an earlier attempt broke off."""

    def __init__(self, item: Download, folder: Path) -> None:
        self.item = item
        self.part = folder / f"{item.filename}.part"

    def __call__(self, fname: str, action: Any, pooch: Any, *, check_only: bool | None = None) -> None:
        import requests
        from tqdm import tqdm

        have = self.part.stat().st_size if self.part.exists() else 0
        if have > self.item.size:
            have = 0
        if have < self.item.size:
            headers = {"Range": f"bytes={have}-"} if have else {}
            with requests.get(fname, headers=headers, stream=True, timeout=30) as answer:
                answer.raise_for_status()
                resumed = have and answer.status_code == requests.codes.partial_content
                bar = tqdm(
                    total=self.item.size,
                    initial=have if resumed else 0,
                    unit="B",
                    unit_scale=True,
                    desc=self.item.filename,
                )
                with open(self.part, "ab" if resumed else "wb") as out, bar:
                    for block in answer.iter_content(1 << 16):
                        out.write(block)
                        bar.update(len(block))
        os.replace(self.part, action)

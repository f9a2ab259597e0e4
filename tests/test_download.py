"""Downloads from a server on this machine: digest, resume, failure."""

import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from neurosbd.datasets.definition import DatasetFile, Download
from neurosbd.datasets.download import get
from neurosbd.errors import RunError, UsageError

CONTENT = bytes(range(256)) * 4000


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT, with ranges; breaks off after `limit` bytes if told to."""

    limit: int | None = None
    ranges: ClassVar[list[str | None]] = []

    def do_GET(self) -> None:
        asked = self.headers.get("Range")
        Handler.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        body = CONTENT[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: Handler.limit] if Handler.limit else body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    Handler.limit, Handler.ranges = None, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def dataset(address: str, digest: str | None = None) -> DatasetFile:
    item = Download(url=f"{address}/set.bin", sha256=digest or hashlib.sha256(CONTENT).hexdigest(), size=len(CONTENT))
    return DatasetFile(name="toy", about="-", licence="-", source="-", reader="idx", download=(item,))


def test_a_download_is_verified_and_not_repeated(address: str, tmp_path: Path) -> None:
    (path,) = get(dataset(address), tmp_path)
    assert path.read_bytes() == CONTENT
    get(dataset(address), tmp_path)
    assert Handler.ranges == [None]


def test_a_broken_download_goes_on_where_it_stopped(address: str, tmp_path: Path) -> None:
    Handler.limit = 300_000
    with pytest.raises(RunError, match="run the same command again"):
        get(dataset(address), tmp_path)
    have = (tmp_path / "toy" / "set.bin.part").stat().st_size
    assert 0 < have <= 300_000
    Handler.limit = None
    (path,) = get(dataset(address), tmp_path)
    assert path.read_bytes() == CONTENT and Handler.ranges == [None, f"bytes={have}-"]


def test_other_content_is_not_kept(address: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not the published one"):
        get(dataset(address, "0" * 64), tmp_path)
    assert not list((tmp_path / "toy").iterdir())


def test_no_server_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="download failed"):
        get(dataset("http://127.0.0.1:9"), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        get(dataset("http://127.0.0.1:9"), tmp_path / "file")

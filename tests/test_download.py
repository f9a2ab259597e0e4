"""Downloads from a server on this machine: digest, resume, and everything that a server can do instead."""

import gzip
import hashlib
import http.server
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from neurosbd.datasets import download
from neurosbd.datasets.definition import DatasetFile, Download
from neurosbd.datasets.download import get
from neurosbd.errors import RunError, UsageError

CONTENT = bytes(range(256)) * 4000
PAGE = b"<html>Please accept our terms.</html>"


class Server(http.server.ThreadingHTTPServer):
    """Serves CONTENT, with ranges; `mood` says what it does instead, `limit` after how many bytes it breaks off."""

    mood = ""
    limit: int | None = None

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.ranges: list[str | None] = []
        self.encodings: list[str | None] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        pass  # the client has gone: that is what is tested


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        assert isinstance(server, Server)
        server.ranges.append(asked)
        server.encodings.append(self.headers.get("Accept-Encoding"))
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        mood = server.mood
        if mood.startswith("redirect "):
            self.send_response(302)
            self.send_header("Location", mood.removeprefix("redirect "))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        if mood == "404" or (mood == "no ranges" and start):
            self.send_error(404 if mood == "404" else 416)
            return
        if mood == "silent":
            time.sleep(2)
            return
        whole = PAGE if mood.startswith("page") else CONTENT + b"more" if mood == "more" else CONTENT
        body, partial = whole[start:], bool(start)
        if mood == "ignores ranges":
            body, partial = whole, False
        if mood == "gzip":
            body = gzip.compress(whole, 1)[start:]
        self.send_response(206 if partial else 200)
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{len(whole) - 1}/{len(whole)}")
        if mood == "gzip":
            self.send_header("Content-Encoding", "gzip")
        if mood.startswith("page"):
            self.send_header("Content-Type", "text/html")
        if mood not in ("page without length", "short without length", "more"):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: server.limit] if server.limit else body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    serving = Server()
    thread = threading.Thread(target=serving.serve_forever, daemon=True)
    thread.start()
    yield serving
    serving.shutdown()
    serving.server_close()


def dataset(address: str, digest: str | None = None) -> DatasetFile:
    item = Download(url=f"{address}/set.bin", sha256=digest or hashlib.sha256(CONTENT).hexdigest(), size=len(CONTENT))
    return DatasetFile(name="toy", about="-", licence="-", source="-", reader="idx", download=(item,))


def broken_off(server: Server, folder: Path) -> int:
    """A first try that ends in the middle; returns the bytes that are kept."""
    server.limit = 300_000
    with pytest.raises(RunError, match="run the same command again"):
        get(dataset(server.address), folder)
    server.limit = None
    have = (folder / "toy" / "set.bin.part").stat().st_size
    assert 0 < have <= 300_000
    return have


def test_a_download_is_verified_and_not_repeated(server: Server, tmp_path: Path) -> None:
    (path,) = get(dataset(server.address), tmp_path)
    assert path.read_bytes() == CONTENT
    get(dataset(server.address), tmp_path)
    assert server.ranges == [None] and server.encodings == ["identity"]


def test_a_broken_download_goes_on_where_it_stopped(server: Server, tmp_path: Path) -> None:
    have = broken_off(server, tmp_path)
    (path,) = get(dataset(server.address), tmp_path)
    assert path.read_bytes() == CONTENT and server.ranges == [None, f"bytes={have}-"]
    assert [file.name for file in path.parent.iterdir()] == ["set.bin"]


@pytest.mark.parametrize("mood", ["gzip", "no ranges", "ignores ranges"])
def test_where_the_rest_cannot_be_used_all_of_it_is_fetched(server: Server, tmp_path: Path, mood: str) -> None:
    """Must fail when a compressed rest is taken for the rest of the file, or 416 for an end (both tried)."""
    broken_off(server, tmp_path)
    server.mood = mood
    (path,) = get(dataset(server.address), tmp_path)
    assert path.read_bytes() == CONTENT


def test_a_rest_of_another_file_is_thrown_away_at_once(server: Server, tmp_path: Path) -> None:
    """Must fail without the second try: the sha256 is then wrong, and the command must be given again (tried)."""
    for left in (b"x" * 1000, b"x" * len(CONTENT), b"x" * (len(CONTENT) + 1)):
        part = tmp_path / "toy" / "set.bin.part"
        part.parent.mkdir(exist_ok=True)
        part.write_bytes(left)
        (path,) = get(dataset(server.address), tmp_path)
        assert path.read_bytes() == CONTENT
        path.unlink()


def test_other_content_is_not_kept(server: Server, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="not the published one: its sha256 is"):
        get(dataset(server.address, "0" * 64), tmp_path)
    assert not list((tmp_path / "toy").iterdir())


@pytest.mark.parametrize(
    ("mood", "message", "kept"),
    [
        ("page", r"37 bytes \(text/html\) are offered, 1,024,000 were published", False),
        ("page without length", "a web page of 37 bytes", False),
        ("more", "more than the published 1,024,000 bytes", False),
        ("short without length", "ended after 300,000 of 1,024,000 bytes; run the same command again", True),
        ("404", "the server does not give it", False),
        ("redirect file:///etc/passwd", "neither http nor https; refused", False),
        ("redirect http://127.0.0.1:9/set.bin", "download failed", False),
        ("silent", "download failed.*timed out", False),
    ],
)
def test_what_a_server_may_do_instead(
    server: Server, tmp_path: Path, mood: str, message: str, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Must fail when bytes beyond the published size are taken (tried)."""
    monkeypatch.setattr(download, "_PATIENCE", 0.5)
    server.mood, server.limit = mood, 300_000 if mood.startswith("short") else None
    with pytest.raises(RunError, match=message):
        get(dataset(server.address), tmp_path)
    there = [file for file in (tmp_path / "toy").iterdir() if file.stat().st_size]
    assert [file.name for file in there] == (["set.bin.part"] if kept else [])


def test_a_redirection_never_leaves_https(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Must fail when http is allowed behind https: the file is then fetched from the second address (tried)."""
    import requests
    from requests.adapters import HTTPAdapter

    def redirected(adapter: object, request: requests.PreparedRequest, **options: object) -> requests.Response:
        answer = requests.Response()
        answer.status_code, answer.request, answer.url = 302, request, str(request.url)
        answer.headers["Location"] = f"{server.address}/set.bin"
        answer.raw = io.BytesIO()
        return answer

    mounted = requests.Session.mount

    def mount(session: requests.Session, prefix: str, adapter: HTTPAdapter) -> None:
        if prefix == "https://":
            monkeypatch.setattr(adapter, "send", redirected.__get__(adapter))
        mounted(session, prefix, adapter)

    monkeypatch.setattr(requests.Session, "mount", mount)
    with pytest.raises(RunError, match="not https"):
        get(dataset("https://published.example"), tmp_path)
    assert server.ranges == []


def test_two_do_not_write_one_file(server: Server, tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / "toy").mkdir()
    with (tmp_path / "toy" / "set.bin.part").open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(RunError, match="another process is fetching"):
            get(dataset(server.address), tmp_path)
    get(dataset(server.address), tmp_path)


def test_nothing_is_written_through_a_link_or_into_a_fifo(server: Server, tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    precious, part = tmp_path / "precious", tmp_path / "toy" / "set.bin.part"
    precious.write_text("precious")
    part.symlink_to(precious)
    get(dataset(server.address), tmp_path)
    assert precious.read_text() == "precious"
    (tmp_path / "toy" / "set.bin").unlink()
    os.mkfifo(part)
    with pytest.raises(UsageError, match="FIFO"):
        get(dataset(server.address), tmp_path)


def test_ctrl_c_keeps_what_came(server: Server, tmp_path: Path) -> None:
    """Must fail when the .part file goes with the process."""
    definition = tmp_path / "toy.toml"
    definition.write_text(
        f'about = "x"\nlicence = "x"\nsource = "x"\nreader = "idx"\n[[download]]\nurl = "{server.address}/set.bin"\n'
        f'sha256 = "{hashlib.sha256(CONTENT).hexdigest()}"\nsize = {len(CONTENT)}\n'
    )
    command = [sys.executable, "-m", "neurosbd", "data", "get", str(definition), "--data", str(tmp_path)]
    part = tmp_path / "toy" / "set.bin.part"
    server.mood, server.limit = "stalls", 500_000
    stalled = threading.Event()
    handle = Handler.finish

    def hold(self: Handler) -> None:
        stalled.wait(20)
        handle(self)

    Handler.finish = hold  # type: ignore[method-assign]
    try:
        process = subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "no_proxy": "127.0.0.1"})
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not (part.exists() and part.stat().st_size):
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    finally:
        stalled.set()
        Handler.finish = handle  # type: ignore[method-assign]
    assert process.returncode == 1 and b"Traceback" not in said and part.stat().st_size
    server.mood, server.limit = "", None
    assert subprocess.run(command, capture_output=True, env={**os.environ, "no_proxy": "127.0.0.1"}).returncode == 0
    assert (tmp_path / "toy" / "set.bin").read_bytes() == CONTENT and server.ranges[-1] is not None


def test_no_server_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="download failed"):
        get(dataset("http://127.0.0.1:9"), tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written"):
        get(dataset("http://127.0.0.1:9"), tmp_path / "file")

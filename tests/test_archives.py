"""Archives that lie about what is in them are refused, whole, and leave nothing behind."""

import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from neurosbd.datasets import archives
from neurosbd.datasets.archives import unpack
from neurosbd.errors import UsageError

LIMIT = 1 << 20


def tar(path: Path, *members: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def plain(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info


def zipped(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return path


def patched(path: Path, edit: Callable[[bytearray, int], None]) -> Path:
    """The zip with its bytes changed; `edit` is told where the central directory begins."""
    content = bytearray(path.read_bytes())
    edit(content, content.find(b"PK\x01\x02"))
    path.write_bytes(content)
    return path


def encrypted(content: bytearray, directory: int) -> None:
    content[6] |= 1
    content[directory + 8] |= 1


def unknown_method(content: bytearray, directory: int) -> None:
    content[8], content[directory + 10] = 99, 99


def larger_than_said(content: bytearray, directory: int) -> None:
    content[22:26] = content[directory + 24 : directory + 28] = struct.pack("<I", 10)


def header_with_a_size(kind: bytes, size: int) -> bytes:
    """A member whose size, negative or beyond any disk, is written in base 256."""
    info = plain("x", kind)
    block = bytearray(info.tobuf(tarfile.USTAR_FORMAT))
    block[124:136] = (b"\xff" if size < 0 else b"\x80") + size.to_bytes(11, "big", signed=True)
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block) + bytes(1024)


def link_in_a_zip() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("x")
    info.create_system, info.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    return info


def made(case: str, folder: Path) -> Path:
    if case in ("../outside.txt", "/outside.txt", "a\\b.txt", "C:evil", "a/../../b", "bell\a"):
        tar(folder / "e.tar.gz", (plain(case), b"x"))
        return zipped(folder / "e.zip", (case, b"x"))
    archive = folder / "e.tar.gz"
    if case == "tar link":
        return tar(archive, (plain("x", tarfile.SYMTYPE, "y"), b""))
    if case == "tar hard link":
        return tar(archive, (plain("x", tarfile.LNKTYPE, "y"), b""))
    if case == "tar fifo":
        return tar(archive, (plain("x", tarfile.FIFOTYPE), b""))
    if case == "tar device":
        return tar(archive, (plain("x", tarfile.CHRTYPE), b""))
    if case == "tar cut":
        tar(archive, (plain("x"), os.urandom(100_000)))
        archive.write_bytes(archive.read_bytes()[:5000])
        return archive
    if case == "tar bit":  # of the data, which tar itself has no checksum for
        tar(archive, (plain("x"), bytes(1000)))
        content = bytearray(gzip.compress(gzip.decompress(archive.read_bytes()), 0))
        content[600] ^= 1
        archive.write_bytes(content)
        return archive
    if case == "tar bomb":
        return tar(archive, (plain("x"), bytes(LIMIT + 1)))
    for name, kind, size in (
        ("tar negative", tarfile.REGTYPE, -512), ("tar absurd", tarfile.REGTYPE, 1 << 60),
        ("tar long name", tarfile.GNUTYPE_LONGNAME, 1 << 40), ("tar pax negative", tarfile.XHDTYPE, -512),
    ):  # fmt: skip
        if case == name:
            archive.write_bytes(gzip.compress(header_with_a_size(kind, size)))
            return archive
    if case == "no tar":
        archive.write_bytes(gzip.compress(b"hello" * 1000))
        return archive
    if case == "zip bomb":
        return zipped(folder / "e.zip", ("x", bytes(LIMIT + 1)))
    if case == "zip link":
        return zipped(folder / "e.zip", (link_in_a_zip(), b"/etc/passwd"))
    archive = zipped(folder / "e.zip", ("x", b"x" * 100))
    return patched(
        archive, {"encrypted": encrypted, "unknown method": unknown_method, "longer": larger_than_said}[case]
    )


@pytest.mark.parametrize(
    ("case", "message"),
    [
        *((name, "would land outside") for name in ("../outside.txt", "/outside.txt", "a\\b.txt", "C:evil", "bell\a")),
        ("a/../../b", "would land outside"),
        ("tar link", "is a link or a device"),
        ("tar hard link", "is a link or a device"),
        ("tar fifo", "is a link or a device"),
        ("tar device", "is a link or a device"),
        ("tar cut", "truncated"),
        ("tar bit", "truncated, corrupt or unsafe archive.*CRC"),
        ("tar bomb", "more than 1,048,576 bytes"),
        ("tar negative", "more than|truncated"),
        ("tar absurd", "more than|truncated"),
        ("tar long name", "absurd size"),
        ("tar pax negative", "absurd size|truncated"),
        ("no tar", "truncated, corrupt or unsafe"),
        ("zip bomb", "more than 1,048,576 bytes"),
        ("zip link", "is a link or a device"),
        ("encrypted", "truncated, corrupt or unsafe archive.*encrypted"),
        ("unknown method", "truncated, corrupt or unsafe archive"),
        ("longer", "truncated, corrupt or unsafe archive.*CRC"),
    ],
)
def test_hostile_archives_are_refused(case: str, message: str, tmp_path: Path) -> None:
    """Must fail when RuntimeError is not caught (encrypted), or no member is looked at (both tried)."""
    last = made(case, tmp_path)
    for path in {last, *tmp_path.glob("e.*")}:
        with pytest.raises(UsageError, match=message):
            unpack(path, tmp_path / "into" / "deep", LIMIT)
        assert not (tmp_path / "into" / "deep").exists() and not list(tmp_path.rglob("*outside*"))
    assert not list((tmp_path / "into").iterdir())  # nothing half-unpacked


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MOST", 3)
    path = zipped(tmp_path / "e.zip", *((f"x{i}", b"") for i in range(4)))
    with pytest.raises(UsageError, match="or 3 files"):
        unpack(path, tmp_path / "into", LIMIT)


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz"])
def test_what_is_unpacked_replaces_what_is_not_whole_and_follows_the_umask(tmp_path: Path, suffix: str) -> None:
    names = ("./top/._hidden", "top/a.txt", "top/sub/")
    path = tmp_path / f"e{suffix}"
    if suffix == ".zip":
        zipped(path, *((name, b"" if name.endswith("/") else b"x") for name in names))
    else:
        tar(path, *((plain(name, tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE), b"") for name in names))
    target = tmp_path / "into"
    target.mkdir()
    (target / "left").write_text("")
    before = os.umask(0o027)
    try:
        unpack(path, target, LIMIT)
    finally:
        os.umask(before)
    assert {str(p.relative_to(target)) for p in target.rglob("*")} == {"top", "top/._hidden", "top/a.txt", "top/sub"}
    assert stat.S_IMODE(target.stat().st_mode) == 0o750


def test_a_full_disk_is_not_the_fault_of_the_archive(tmp_path: Path) -> None:
    path = zipped(tmp_path / "e.zip", ("x", b"x"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be unpacked into"):
        unpack(path, tmp_path / "file" / "deep", LIMIT)

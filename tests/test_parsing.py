"""TOML, JSON and --set of unknown origin: one clear error, at once, whatever they hold."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import neurosbd
from neurosbd.cli.main import main
from neurosbd.config.resolve import load_model, parse_settings
from neurosbd.errors import UsageError
from neurosbd.files import library
from neurosbd.files.parsing import parse_json, read_json, read_toml

DIGITS = library.find("models", "digits-mlp").read_text()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"x = " + b"[" * 5000 + b"]" * 5000, "nested too deeply; legal are 50"),
        (b"x = " + b"[" * 60 + b"]" * 60, "more than 50 tables and lists in each other"),
        (b".".join([b"a"] * 3000) + b" = 1", "more than 50 tables and lists in each other"),
        (b"seed = " + b"9" * 5000, "an integer of more than 64 bits"),
        (b"[data]\nsubset = 9223372036854775808", "data.subset: is an integer of 64 bits; legal are 64 with the sign"),
        (b'name = "\xff"', "is not text in UTF-8"),
        ("name = 1".encode("utf-16"), "is not text in UTF-8"),
        (b"x\x00 = 1", "not valid TOML"),
        (b"seed = 1\nseed = 2", "not valid TOML: Cannot overwrite a value (at"),
        (b"", "population: is missing; it must be given"),
        (b"x1 = 1\n" * 400_000, "has 2,800,000 bytes; legal for a TOML file here are 2,097,152 at most"),
    ],
)
def test_bad_toml(tmp_path: Path, content: bytes, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Must fail with tomllib alone (tried: RecursionError, ValueError, UnicodeDecodeError, a minute of parsing)."""
    (tmp_path / "m.toml").write_bytes(content)
    assert main(["show", str(tmp_path / "m.toml")]) == 2
    err = capsys.readouterr().err
    assert said in err and "m.toml" in err and len(err) < 2000


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf" + DIGITS.encode(), DIGITS.replace("\n", "\r\n").encode()])
def test_files_of_windows_editors_are_read(tmp_path: Path, content: bytes) -> None:
    """A mark of byte order, and CRLF."""
    (tmp_path / "m.toml").write_bytes(content)
    name = {"name": "digits-mlp"}
    assert load_model(tmp_path / "m.toml").model_copy(update=name) == load_model("digits-mlp")


def test_what_is_no_file_is_not_opened(tmp_path: Path) -> None:
    """A FIFO would wait for a writer forever. Must fail with `read_text` (tried)."""
    os.mkfifo(tmp_path / "fifo.toml")
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "device.toml").symlink_to("/dev/zero")
    for name in ("fifo", "folder", "device"):
        for read in (read_toml, read_json):
            with pytest.raises(UsageError, match=f"{name}.toml: is a .*refused without opening it"):
                read(tmp_path / f"{name}.toml")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nested too deeply"),
        ("[" * 60 + "]" * 60, "more than 50 tables"),
        ('{"a": ' + "9" * 5000 + "}", "an integer of more than 64 bits"),
        ('{"a": {"b": -9223372036854775809}}', "a.b: is an integer of 64 bits"),
        ('{"a": "\\ud800"}', "a: has half a character"),
        ('{"a": 1, "a": 2}', "the key 'a' is there more than once"),
        ("", "not valid JSON"),
        ("\x00", "not valid JSON"),
    ],
)
def test_bad_json(text: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as problem:
        parse_json(text, "here")
    assert str(problem.value).startswith("here: ") and len(str(problem.value)) < 300
    assert parse_json('{"a": [NaN, Infinity, 9223372036854775807, "\\ud83d\\ude00"]}', "") == {
        "a": [None, None, 2**63 - 1, "😀"]
    }


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (["training.epochs"], "write --set key=value"),
        (["=3"], "write --set key=value"),
        (["training..epochs=3"], "joined by single dots"),
        (['training."epochs"=3'], "the key without quotes"),
        (["seed=" + "9" * 5000], "--set seed: 99"),
        (["seed=" + "[" * 3000 + "]" * 3000], "nested too deeply"),
        (["seed=" + "[" * 60 + "]" * 60], "more than 50 tables"),
        (["seed=18446744073709551616"], "--set seed: value: is an integer of 65 bits"),
        (["seed=1\nname='x'"], "is more than one value"),
        (["seed=1", "seed=2"], "--set seed is given twice, as 1 and 2"),
        (["about=\udcff"], "half a character"),
    ],
)
def test_bad_settings(settings: list[str], said: str) -> None:
    """Must fail when one of two values, or what follows a line end, is dropped without a word (both tried)."""
    with pytest.raises(UsageError) as problem:
        parse_settings(settings)
    assert said in str(problem.value) and len(str(problem.value)) < 400
    assert parse_settings(["seed=1", "seed=1", "data.name=mnist"]) == {"seed": 1, "data.name": "mnist"}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("kept") / "run"
    neurosbd.fit("digits-mlp", settings={"training.epochs": 2, "data.subset": 8}, out=out)
    return out


def _edited(change: Callable[[Any], Any]) -> Callable[[bytes], bytes]:
    return lambda old: json.dumps(change(json.loads(old))).encode()


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("config.json", lambda old: b"[]", "config.json: is list, not a table; this is no run of neurosbd"),
        ("config.json", lambda old: b"{}", "config.json: has no definition"),
        ("config.json", _edited(lambda c: {**c, "definition": 3}), "definition: must be a table, got 3"),
        ("metrics.jsonl", lambda old: b"\xff\xfe", "metrics.jsonl: is not text in UTF-8"),
        ("metrics.jsonl", lambda old: b"3\n", "metrics.jsonl: line 1: is int, not a table"),
        ("metrics.jsonl", lambda old: old + old, "line 3 is epoch 1; legal is a line per epoch from 1 on, in order"),
        ("metrics.jsonl", lambda old: old.replace(b'"epoch": 1', b'"epoch": "1"'), "epoch: must be an integer from 1"),
        ("metrics.jsonl", lambda old: old.replace(b'"test_loss"', b'"x": [], "test_loss"'), "x: must be a number"),
        ("metrics.jsonl", lambda old: old.replace(b"}", b""), "metrics.jsonl: line 1: not valid JSON"),
        ("result.json", lambda old: b"null", "result.json: is NoneType, not a table"),
        ("result.json", _edited(lambda r: {**r, "status": []}), "status: must be a text, got []"),
        ("result.json", _edited(lambda r: {**r, "warnings": "x"}), "warnings: must be a list of texts, got 'x'"),
    ],
)
def test_records_of_the_wrong_kind(
    kept: Path,
    tmp_path: Path,
    file: str,
    change: Callable[[bytes], bytes],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Every command that opens a run says so. Must fail when a record is taken as it is (tried: TypeError)."""
    run = shutil.copytree(kept, tmp_path / "run")
    (run / file).write_bytes(change((run / file).read_bytes()))
    for command in (["export", str(run), "--to", "nir", "x.nir"], ["compare", str(run)], ["analyse", str(run)]):
        assert main(command) == 2
        assert said in capsys.readouterr().err

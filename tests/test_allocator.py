"""Freed memory is kept, no value changes by it, and what the user has set up stays."""

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from neurosbd import open_run
from neurosbd.allocator import keep_freed_memory

GLIBC = sys.platform == "linux" and platform.libc_ver()[0] == "glibc"
SET_UP = ("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD", "THP_MEM")
FAULTS = """
import resource, sys
from neurosbd.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
import torch
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
start = faults()
for step in range(20):
    activity = [torch.empty(4_000_000).fill_(step) for layer in range(4)]  # 16 MB each
    del activity
print(faults() - start)
"""


def run(*arguments: str, **more: str) -> str:
    """What a Python of its own prints, without anything set up but `more`."""
    bare = {name: value for name, value in os.environ.items() if not name.startswith(SET_UP)}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=True, env=bare | more
    ).stdout


@pytest.mark.skipif(not GLIBC, reason="memory is kept on Linux with glibc only")
def test_freed_memory_is_not_faulted_in_again() -> None:
    # Must fail when nothing is kept: 64 MB are 15,625 pages of 4 KB, and most are given back every time.
    before, after = (int(run("-c", FAULTS, way)) for way in ("given back", "kept"))
    assert before > 2 * 15_625 > after


@pytest.mark.skipif(not GLIBC, reason="memory is kept on Linux with glibc only")
@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES", "LD_PRELOAD"])
def test_what_is_set_up_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "")
    monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", "0")
    assert not keep_freed_memory()
    assert os.environ["THP_MEM_ALLOC_ENABLE"] == "0"


def test_other_systems_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    assert not keep_freed_memory()
    assert "THP_MEM_ALLOC_ENABLE" not in os.environ


def test_no_value_changes(tmp_path: Path) -> None:
    losses = []
    for way in ({}, {"GLIBC_TUNABLES": "", "THP_MEM_ALLOC_ENABLE": "0"}):
        out = tmp_path / str(len(losses))
        run("-m", "neurosbd", "fit", "digits-mlp", "--set", "training.epochs=2", "--out", str(out), **way)
        losses.append(open_run(out).metrics[-1]["test_loss"])
    assert losses[0] == losses[1]

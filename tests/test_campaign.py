"""The campaign of damaged files and killed runs, in small: nothing but clear errors, and nothing is lost."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
CHEAP = ("model.toml", "data.toml", "npz", "csv", "png", "pgm", "idx", "idx.gz", "cifar", "shd", "nir", "zip", "tar.gz",
         "loss.py", "spikes.csv", "spikes.nwb", "spikes.h5", "arrays.npy", "sonata.h5")  # fmt: skip
EACH = 20  # files of every format


def campaign(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, str(ROOT / "benchmarks/faults.py"), *arguments, "--json"]
    told = subprocess.run(command, capture_output=True, text=True)
    assert told.stdout.startswith("{"), told.stderr
    return json.loads(told.stdout)


def test_damaged_files_get_one_clear_error() -> None:
    """Must fail when one exception of a reader is let through (tried: struct.error of idx, KeyError of NIR)."""
    found = campaign("--files", str(EACH * len(CHEAP)), "--kills", "0", "--formats", *CHEAP)
    assert found["faults"] == [] and found["strange_warnings"] == []
    assert {name: row["files"] for name, row in found["formats"].items()} == dict.fromkeys(CHEAP, EACH)
    assert all(row["refused"] > 0 for row in found["formats"].values())


def test_killed_runs_end_as_if_they_had_not_been() -> None:
    """Must fail when a resumed run draws another order of its examples (tried)."""
    found = campaign("--files", "0", "--kills", "3", "--jobs", "fit")
    assert found["kill_faults"] == [] and found["kills"]["all"]["kills"] >= 3
    assert found["kills"]["all"]["lost"] == found["kills"]["all"]["differs"] == 0


def test_the_page_on_safety_says_what_is_so() -> None:
    """Its figures are those of the code."""
    from neurosbd.datasets import archives, pixels
    from neurosbd.files import parsing
    from neurosbd.files.writing import _LONGEST_PART

    text = re.sub(r"\s+", " ", (ROOT / "docs/security.md").read_text())
    assert (
        f"at most {parsing._LARGEST['TOML'] >> 20} MB" in text and f"up to {parsing._LARGEST['JSON'] >> 20} MB" in text
    )
    assert f"at most {parsing._DEEPEST} tables" in text and f"at most {pixels.LARGEST_SIDE:,} pixels" in text
    assert f"at most {archives.LARGEST >> 30} GB unpacked" in text and f"at most {_LONGEST_PART} bytes a name" in text
    runs = re.compile(r"(?<![\w.])(exec|eval)\(|exec_module|run_path|import pickle")
    assert {p.name for p in (ROOT / "neurosbd").rglob("*.py") if runs.search(p.read_text())} == {
        "custom.py",
        "analyses.py",
        "plugins.py",
    }

"""Damaged files and killed runs: does everything end with one clear error, and is nothing lost?

    python benchmarks/faults.py [--files 10000] [--kills 500] [--seed 0] [--workers 2] [--json]
        [--formats npz csv ...] [--jobs fit ...]
    python benchmarks/faults.py --only npz --number 17          # one file again, with all that it prints

Files: small valid ones of every format that is read, damaged (flipped bits, cut, longer, zeroed, swapped, repeated and
dropped spans, integers and words replaced by extreme and hostile ones, also inside of what is packed), and read as a
user does, each in a process of its own with 2 GB of memory and 60 s. 'refused' is one clear error. Read without a word
are: the same content as before the damage; another legal content, of formats without a checksum (the reason is given);
and 'silent', where a checksum should have told. Kills: see benchmarks/faults/kills.py.
"""

import argparse
import functools
import importlib
import json
import multiprocessing
import os
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch
from faults import kills
from faults.attempts import Verdict, attempt
from faults.datafiles import DATA
from faults.formats import Format
from faults.freefiles import FREE
from faults.mutations import mutated
from faults.runfiles import RUNS

# Loaded once, so that no attempt has to.
WARM = (
    "h5py", "jinja2", "matplotlib.pyplot", "nir", "PIL.Image", "scipy.stats", "torch._dynamo", "neurosbd.cli.main",
    "neurosbd.training.fit", "neurosbd.experiments.simulate", "neurosbd.runs.exporting", "neurosbd.report.analysing",
    "neurosbd.report.comparing",
)  # fmt: skip
FORMATS: dict[str, Format] = DATA | FREE | RUNS
FAULTS = ("silent", "traceback", "hang", "crash")
OUTCOMES = ("refused", "same", "other", "warned", *FAULTS)


@dataclass(frozen=True)
class Trial:
    """A damaged file and what came of it: an outcome, and the verdict it is made from."""

    format: str
    number: int
    damage: str
    result: str
    verdict: Verdict


def pristine(name: str, top: Path) -> Path:
    """The folder with the valid files of a format, made by a process of its own."""
    folder = top / "pristine" / name
    if not folder.exists():
        folder.mkdir(parents=True)
        made = attempt(lambda: FORMATS[name].make(folder), folder)
        if made.how != "read":
            raise RuntimeError(f"the valid files of {name} cannot be made: {made.how} {made.said} {made.where}")
    return folder


@functools.cache
def undamaged(name: str, top: Path, target: str, read: int) -> str:
    """Digest of what a valid file is read as."""
    with tempfile.TemporaryDirectory(dir=top) as place:
        folder = Path(shutil.copytree(pristine(name, top), Path(place) / "w"))
        verdict = attempt(lambda: FORMATS[name].reads[read](Path(target)), folder)
    if verdict.how != "read":
        raise RuntimeError(f"the valid {target} of {name} is not read: {verdict.how} {verdict.said} {verdict.where}")
    return verdict.value


def damaged(name: str, number: int, seed: int, top: Path, loud: bool = False) -> Trial:
    """Damage file `number` of a format and read it."""
    form, rng = FORMATS[name], random.Random(f"{seed}/{name}/{number}")
    source = pristine(name, top)
    targets = [str(path.relative_to(source)) for path in form.files(source)]
    target, read = rng.choice(targets), rng.randrange(len(form.reads))
    with tempfile.TemporaryDirectory(dir=top) as place:
        folder = Path(shutil.copytree(source, Path(place) / "w", symlinks=True))
        content = (folder / target).read_bytes()
        changed, damage = mutated(content, rng)
        while changed == content:
            changed, damage = mutated(content, rng)
        (folder / target).write_bytes(changed)
        verdict = attempt(lambda: form.reads[read](Path(target)), folder, loud=loud)
    result = verdict.how
    if result == "read":
        same = verdict.value == undamaged(name, top, target, read)
        result = "same" if same else "warned" if verdict.warned else "other" if form.free else "silent"
    if loud:
        print(f"{target}, {getattr(form.reads[read], '__name__', 'read')}, {damage}: {result} {verdict}")
    return Trial(name, number, damage, result, verdict)


def _damaged(task: tuple[str, int, int, Path]) -> Trial:
    return damaged(*task)


def tried(names: list[str], files: int, seed: int, workers: int, top: Path) -> Iterator[Trial]:
    """Files in equal numbers of every format."""
    for name in names:
        pristine(name, top)
    tasks = [(names[i % len(names)], i // len(names), seed, top) for i in range(files)]
    with multiprocessing.get_context("fork").Pool(workers, maxtasksperchild=500) as pool:
        for done, trial in enumerate(pool.imap_unordered(_damaged, tasks, chunksize=4), 1):
            if trial.result in FAULTS:
                said = f"{trial.result} {trial.verdict.said} [{trial.verdict.where}]"
                print(
                    f"--seed {seed} --only {trial.format} --number {trial.number}: {said}", file=sys.stderr, flush=True
                )
            if done % 500 == 0:
                print(f"{done:,} of {files:,} files", file=sys.stderr, flush=True)
            yield trial


def summary(trials: list[Trial]) -> dict[str, Any]:
    """Counts per format, and every distinct fault with a command that shows it."""
    counts = {
        name: Counter(t.result for t in trials if t.format == name) for name in dict.fromkeys(t.format for t in trials)
    }
    faults: dict[str, list[Trial]] = {}
    strange: dict[str, list[Trial]] = {}
    for trial in trials:
        verdict = trial.verdict
        if trial.result in FAULTS:
            said = verdict.said.split("(")[0][:80] if trial.result == "traceback" else verdict.said
            faults.setdefault(f"{trial.format}: {trial.result} {said} [{verdict.where}]", []).append(trial)
        for text in verdict.strange:
            strange.setdefault(f"{trial.format}: {text[:90]}", []).append(trial)

    def listed(found: dict[str, list[Trial]]) -> list[dict[str, Any]]:
        ordered = sorted(found.items(), key=lambda item: -len(item[1]))
        return [
            {"what": what, "times": len(ts), "number": min(t.number for t in ts), "format": ts[0].format}
            for what, ts in ordered
        ]

    formats = {
        name: {"files": sum(count.values()), **{o: count[o] for o in OUTCOMES}} for name, count in counts.items()
    }
    free = {name: FORMATS[name].free for name in counts if counts[name]["other"]}
    return {"formats": formats, "other_content": free, "faults": listed(faults), "strange_warnings": listed(strange)}


def _print(found: dict[str, Any], seed: int) -> None:
    print(f"{'format':<18}{'files':>7}" + "".join(f"{result:>11}" for result in OUTCOMES))
    rows = {**found["formats"], "all": Counter()}
    for row in found["formats"].values():
        rows["all"].update(row)
    for name, row in rows.items():
        print(f"{name:<18}{row['files']:>7,}" + "".join(f"{row[result]:>11,}" for result in OUTCOMES))
    for why in dict.fromkeys(found["other_content"].values()):
        names = ", ".join(name for name, reason in found["other_content"].items() if reason == why)
        print(f"other content without a word ({names}): {why}")
    for kind in ("faults", "strange_warnings"):
        print(f"{len(found[kind])} distinct {kind.replace('_', ' ')}")
        for fault in found[kind]:
            again = f"--seed {seed} --only {fault['format']} --number {fault['number']}"
            print(f"{fault['times']:>5} x {fault['what']}\n        {again}")


def main() -> None:
    """Parse, damage, kill, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--formats", nargs="+", choices=FORMATS, default=list(FORMATS), metavar="FORMAT")
    parser.add_argument("--jobs", nargs="+", choices=kills.JOBS, default=list(kills.JOBS), metavar="JOB")
    parser.add_argument("--only", choices=[*FORMATS, *kills.JOBS], metavar="FORMAT or JOB")
    parser.add_argument("--number", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for module in WARM:
        importlib.import_module(module)
    shared = Path("/dev/shm")  # in memory: nothing here is lost with the power, so nothing has to wait for a disk
    with tempfile.TemporaryDirectory(prefix="faults-", dir=shared if shared.is_dir() else None) as folder:
        top = Path(folder)
        if options.only in FORMATS:
            damaged(options.only, options.number, options.seed, top, loud=True)
            return
        if options.only:
            print(kills.killed(options.only, options.number, options.seed, top))
            return
        found = summary(list(tried(options.formats, options.files, options.seed, options.workers, top)))
        ended = kills.campaign(options.jobs, options.kills, options.seed, options.workers, top)
    if options.json:
        print(
            json.dumps(
                {**found, "kills": kills.table(ended), "kill_faults": [asdict(k) for k in kills.faulty(ended)]},
                indent=1,
            )
        )
    else:
        _print(found, options.seed)
        kills.show(ended, options.seed)
    bad = sum(found["formats"][n][o] for n in found["formats"] for o in FAULTS)
    sys.exit(1 if bad or kills.faulty(ended) else 0)


if __name__ == "__main__":
    main()

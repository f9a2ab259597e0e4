"""Checkpoints: one bit that flipped is noticed, nothing that does not fit is used, the one before is kept."""

import copy
import random
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from neurosbd.errors import UsageError, UsageWarning
from neurosbd.files import checkpoints
from neurosbd.learning.schedules import SCHEDULES
from neurosbd.runs.run import open_run
from neurosbd.training.fit import fit

SMALL = {"training.epochs": 3, "data.subset": 12, "population.hidden1.size": [16], "population.hidden2.size": [8]}
EPOCH = 4  # batches
Content = dict[str, Any]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and torch.equal(a.nan_to_num(-9), b.nan_to_num(-9))
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of three epochs after the second, with a record."""
    path = tmp_path_factory.mktemp("half") / "run"
    fit("digits-mlp", settings=SMALL | {"training.epochs": 2}, record=["loss"], out=path)
    return path


@pytest.fixture
def run(half: Path, tmp_path: Path) -> Path:
    """A copy to be damaged; its checkpoint is after the first of two epochs."""
    shutil.copytree(half, tmp_path / "run")
    shutil.copy(tmp_path / "run" / "checkpoint.previous.pt", tmp_path / "run" / "checkpoint.pt")
    (tmp_path / "run" / "trace.h5").rename(tmp_path / "run" / "trace.h5.partial")
    return tmp_path / "run"


def resume(path: Path) -> Any:
    return fit("digits-mlp", settings=SMALL | {"training.epochs": 2}, record=["loss"], out=path, resume=True)


def test_of_2000_flipped_bits_none_is_taken_for_data(half: Path, tmp_path: Path) -> None:
    """Anywhere in the file. Must fail without the checksum: nearly all are taken (tried).

    A flip in the mark of the checksum makes the file one without, of the very same content: said, and harmless.
    """
    whole, path = (half / "checkpoint.pt").read_bytes(), tmp_path / "checkpoint.pt"
    content, draw = checkpoints.load(half / "checkpoint.pt"), random.Random(0)
    places = {draw.randrange(8 * len(whole)) for _ in range(2000)} | set(range(8 * (len(whole) - 110), 8 * len(whole)))
    refused = 0
    for place in places:
        damaged = bytearray(whole)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                assert same(checkpoints.load(path), content)
            assert [warning.category for warning in told] == [UsageWarning]
        except UsageError as problem:
            assert "damaged" in str(problem) or "not a readable checkpoint" in str(problem)
            refused += 1
    assert len(places) - 8 * len(b"neurosbd sha256 ") <= refused < len(places)


def test_torch_reads_it_by_itself(half: Path) -> None:
    plain = torch.load(half / "checkpoint.pt", weights_only=True)
    assert same(plain, checkpoints.load(half / "checkpoint.pt"))
    assert same(torch.load(half / "checkpoint.pt", weights_only=True, mmap=True), plain)


def test_the_one_before_is_kept_and_offered(run: Path, half: Path) -> None:
    """And leads to the same end. Must fail when nothing is kept (tried)."""
    shutil.copy(half / "checkpoint.pt", run / "checkpoint.pt")
    damaged = bytearray((run / "checkpoint.pt").read_bytes())
    damaged[len(damaged) // 2] ^= 4
    (run / "checkpoint.pt").write_bytes(damaged)
    with pytest.raises(UsageError, match=r"is damaged.*The one before it is whole \(1 epochs and 0 batches\).*mv '"):
        open_run(run).network()
    with pytest.raises(UsageError, match=r"mv '.*checkpoint.previous.pt' '.*checkpoint.pt', then --resume"):
        resume(run)
    (run / "checkpoint.previous.pt").replace(run / "checkpoint.pt")
    assert same(resume(run).checkpoint(), open_run(half).checkpoint())
    (run / "checkpoint.pt").unlink()
    with pytest.raises(UsageError, match=r"there is no checkpoint\. The one before it is whole"):
        resume(run)
    (run / "checkpoint.previous.pt").write_bytes(b"")
    with pytest.raises(UsageError, match=r"There is none before it"):
        resume(run)


def test_one_without_a_checksum_is_taken_with_a_word(run: Path, half: Path) -> None:
    """As older versions and torch.save write it, but for what a zip archive knows itself to be damaged."""
    content = checkpoints.load(run / "checkpoint.pt")
    torch.save(content, run / "checkpoint.pt")
    damaged = bytearray((run / "checkpoint.pt").read_bytes())
    weights = content["network"]["weights.input->hidden1"].numpy().tobytes()
    damaged[damaged.find(weights) + 7] ^= 1
    (run.parent / "damaged.pt").write_bytes(damaged)
    with pytest.raises(UsageError, match=r"is damaged: the CRC of '.*data/\d+' in it is wrong"):
        checkpoints.load(run.parent / "damaged.pt")
    with pytest.warns(UsageWarning, match="has no checksum"):
        again = resume(run)
    assert same(again.checkpoint(), open_run(half).checkpoint())


def moments(content: Content, change: Callable[[torch.Tensor], torch.Tensor]) -> None:
    for entry in content["optimizer"]["state"].values():
        entry["exp_avg"] = change(entry["exp_avg"])


def put(content: Any, where: str, value: Any) -> None:
    *path, last = (int(step) if step.isdigit() else step for step in where.split("/"))
    for step in path:
        content = content[step]
    content[last] = value


GROUP = "optimizer/param_groups/0"
CHANGES: list[tuple[str, Callable[[Content], Any]]] = [
    (r"no 'tally'", lambda c: c.pop("tally")),
    (r"epoch is nan.*0..2", lambda c: put(c, "epoch", float("nan"))),
    (r"epoch is 1000000", lambda c: put(c, "epoch", 10**6)),
    (r"epoch is -1", lambda c: put(c, "epoch", -1)),
    (r"epoch is True", lambda c: put(c, "epoch", True)),
    (r"epoch is tensor", lambda c: put(c, "epoch", torch.zeros(3))),
    (r"number is 9; here .* 0..4", lambda c: put(c, "number", 9)),
    (r"learner: NoneType there", lambda c: put(c, "learner", None)),
    (r"learner.modulators: ", lambda c: c["learner"]["modulators"].pop("hidden1")),
    (r"network: list there", lambda c: put(c, "network", [])),
    (r"network.weights.*float64 \[16, 64\] there", lambda c: put(
        c, "network/weights.input->hidden1", torch.zeros(16, 64, dtype=torch.float64))),
    (r"network.weights.*\[16, 63\] there", lambda c: put(c, "network/weights.input->hidden1", torch.zeros(16, 63))),
    (r"share a place", lambda c: put(c, "network/weights.input->hidden1", torch.zeros(1).expand(16, 64))),
    (r"weights.input->hidden1 is not finite", lambda c: put(
        c, "network/weights.input->hidden1", torch.full((16, 64), float("nan")))),
    (r"exp_avg: float32 \[1\] there", lambda c: moments(c, lambda m: torch.full((1,), 7.0))),
    (r"exp_avg.*share a place", lambda c: moments(c, lambda m: torch.zeros(1).expand(m.shape))),
    (r"exp_avg is laid out by \(1, 16\)", lambda c: moments(c, lambda m: m.T.contiguous().T if m.ndim == 2 else m)),
    (r"exp_avg: NoneType there", lambda c: put(c, "optimizer/state/0/exp_avg", None)),
    (r"state.0.step is 1000000000.0; .* 0..4", lambda c: put(c, "optimizer/state/0/step", torch.tensor(1e9))),
    (r"state.0.step is nan", lambda c: put(c, "optimizer/state/0/step", torch.tensor(float("nan")))),
    (r"state is 77", lambda c: c["optimizer"]["state"].update({77: {}})),
    (r"optimizer is list", lambda c: put(c, "optimizer", [])),
    (r"param_groups.0.betas is \(0.0, 0.0\)", lambda c: put(c, f"{GROUP}/betas", (0.0, 0.0))),
    (r"param_groups.0.lr is -1.0", lambda c: put(c, f"{GROUP}/lr", -1.0)),
    (r"param_groups.0.lr: is inf", lambda c: put(c, f"{GROUP}/lr", float("inf"))),
    (r"param_groups.0.params is \[7, 1\]", lambda c: put(c, f"{GROUP}/params", [7, 1])),
    (r"schedule.last_epoch is 400", lambda c: put(c, "schedule/last_epoch", 400)),
    (r"schedule._last_lr: list of 0 there", lambda c: put(c, "schedule/_last_lr", [])),
    (r"tally: float64 \[2\] there", lambda c: put(c, "tally", torch.zeros(2, dtype=torch.float64))),
    (r"recorder: NoneType there", lambda c: put(c, "recorder", None)),
    (r"recorder.rows.0 is -3", lambda c: put(c, "recorder/rows/0", -3)),
    (r"recorder.pending.0 is of lengths \[0, 5\]|\[\d+, 5\]", lambda c: put(
        c, "recorder/pending/0/time", torch.zeros(5, dtype=torch.float64))),
    (r"recorder.pending.0.values: ", lambda c: put(c, "recorder/pending/0/values", {})),
]  # fmt: skip


@pytest.mark.parametrize(("message", "change"), CHANGES, ids=[message for message, _ in CHANGES])
def test_nothing_is_used_that_does_not_fit(run: Path, message: str, change: Callable[[Content], Any]) -> None:
    """With a checksum that is right, as whoever edits a file can make it; and nothing is changed then.

    Must fail without the comparison: short moments corrupt the heap, an epoch of a million finishes (both tried).
    """
    content = copy.deepcopy(checkpoints.load(run / "checkpoint.pt"))
    content.pop("format")
    change(content)
    checkpoints.save(run / "checkpoint.pt", content)
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    with pytest.raises(UsageError, match=message):
        resume(run)
    assert before == {path.name: path.read_bytes() for path in run.iterdir()}


def test_weights_of_another_network_are_refused(run: Path) -> None:
    content = checkpoints.load(run / "checkpoint.pt")
    content["network"]["weights.input->hidden1"] = torch.zeros(3, 4)
    checkpoints.save(run / "checkpoint.pt", content)
    with pytest.raises(UsageError, match=r"network.weights.input->hidden1: float32 \[3, 4\] there, float32 \[16, 64\]"):
        open_run(run).network()


@pytest.mark.parametrize("schedule", [*(name for name in SCHEDULES if name != "steps"), "steps"])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adamw"])
def test_honest_checkpoints_fit(tmp_path: Path, schedule: str, optimizer: str) -> None:
    """Of every schedule and optimizer, in the middle of an epoch; the end is that of an undisturbed run."""
    settings = SMALL | {
        "training.epochs": 2,
        "training.schedule": {"kind": "steps", "epochs": [1]} if schedule == "steps" else schedule,
        "training.optimizer": {"kind": "sgd", "momentum": 0.9} if optimizer == "momentum" else optimizer,
        "training.checkpoint_every": 3,
    }
    whole = fit("digits-mlp", settings=settings, out=tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "parts")
    (tmp_path / "parts" / "checkpoint.previous.pt").replace(tmp_path / "parts" / "checkpoint.pt")
    assert checkpoints.load(tmp_path / "parts" / "checkpoint.pt")["number"] == 3
    assert same(
        fit("digits-mlp", settings=settings, out=tmp_path / "parts", resume=True).checkpoint(), whole.checkpoint()
    )

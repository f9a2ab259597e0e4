"""What no machine could hold is refused before memory is asked for, with figures; nothing is written."""

from pathlib import Path

import pytest

from neurosbd.cli.main import main
from neurosbd.errors import UsageError
from neurosbd.experiments.simulate import simulate
from neurosbd.training.fit import fit

ABSURD = [
    ("digits-mlp", "population.hidden1.size", [10**15], "2147483647"),
    ("digits-mlp", "population.hidden1.size", [10**9], r"'input->hidden1' of 64,000,000,000 weights: .* 1,028.0 GB"),
    ("digits-mlp", "training.epochs", 10**20, "2147483647"),
    ("digits-mlp", "training.batch_size", 10**20, "2147483647"),
    ("digits-mlp", "seed", 10**30, "9223372036854775807"),
    ("digits-mlp", "seed", -1, "must be in 0..9223372036854775807, got -1"),
    ("digits-mlp", "data.subset_seed", -1, "must be in 0..9223372036854775807, got -1"),
    ("digits-mlp", "data.crop", 10**20, "data.crop"),
    ("digits-snn", "time.steps", 10**20, "10000000"),
    ("digits-snn", "connection.0.delay", 10**15, "100000"),
    ("xor-delayed-reward", "task.duration", "1e15 ms", "steps; legal are 10,000,000"),
    ("xor-delayed-reward", "training.batch_size", 2**31 - 1, r"a batch of 2,147,483,647 examples at least [\d,]+ GB"),
    ("dopamine-conditioning", "simulation.examples", 2**31 - 1, r"examples side by side.*; make simulation\.examples"),
    (
        "dopamine-conditioning",
        "simulation.duration",
        1e12,
        r"1e\+12 s has 1,000,000,000,000,000 steps .* legal are 2,147,483,647",
    ),
    (
        "dopamine-conditioning",
        "reward.0.longest",
        1e12,
        r"reward 0: 1e\+12 s are 1e\+15 steps, .* legal are 10,000,000",
    ),
    ("dopamine-conditioning", "reward.0.window", 1e300, "coincidence.window = 1e.300 s has"),
    ("dopamine-conditioning", "time.dt", 1e-300, "must be at least 1e-09 s, got 1e-300"),
    ("stdp-window", "protocol.pairs", 10**12, "400,000,000,000,000 steps per trial; legal are 10,000,000"),
    ("stdp-window", "protocol.period", "1e12 ms", "1,000,000,000,000 steps per trial"),
    ("stdp-window", "protocol.every", 1e-300, "near it: 0.001 s"),
    ("pattern-generation", "task.duration", "9e9 ms", r"a frozen input of 9e\+11 numbers; legal are 100,000,000"),
    ("evidence-accumulation", "task.cues", 10**12 + 1, "steps; legal are 10,000,000"),
]


@pytest.mark.parametrize(("model", "key", "value", "message"), ABSURD, ids=[f"{k}={v}" for _, k, v, _ in ABSURD])
def test_absurd_requests_are_refused(tmp_path: Path, model: str, key: str, value: object, message: str) -> None:
    """Must fail without limits and estimates: OverflowError, or an error of the allocator (tried)."""
    run = fit if model.startswith("digits") else simulate
    with pytest.raises(UsageError, match=message):
        run(model, settings={key: value}, out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_the_key_that_helps_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch is made smaller only where it is what takes the memory. Must fail if one text does for all (tried)."""
    monkeypatch.setattr("neurosbd.training.capacity.room", lambda: 1000)
    for run, model, settings, keys in (
        (fit, "digits-mlp", {"training.batch_size": 1000}, "make training.batch_size or populations smaller"),
        (fit, "digits-mlp", {"training.batch_size": 1}, "make populations smaller"),
        (fit, "digits-snn", {"connection.0.delay": 3, "training.batch_size": 1}, "make populations or delays smaller"),
        (simulate, "dopamine-conditioning", {}, "make simulation.examples or populations smaller"),
        (simulate, "stdp-window", {}, None),
    ):
        if keys is None:
            assert run(model, settings=settings, out=tmp_path / model).result["status"] == "finished"
        else:
            with pytest.raises(UsageError, match=f"; {keys}$"):
                run(model, settings=settings, out=tmp_path / model)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([10**15], "size.0: must be in 1..2147483647, got 1000000000000000"),
        ([16, 0], "size.1: must be in 1..2147483647, got 0"),
        ([], r"size: must have 1 or more values, got \[\]"),
        (10, "size: must be a list, in brackets, got 10"),
    ],
)
def test_one_mistake_is_one_line(value: object, said: str) -> None:
    """Must fail where a list that has lost its illegal item is called too short as well, or where the line names
    the file in place of the setting (both tried).
    """
    with pytest.raises(UsageError, match=rf"^setting: population\.hidden1\.{said}$") as refused:
        fit("digits-mlp", settings={"population.hidden1.size": value})
    assert "\n" not in str(refused.value)


def test_what_the_optimizer_keeps_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """17,226 weights: Adam needs three more numbers for each, SGD one. Must fail if moments are left out (tried)."""
    settings = {"training.epochs": 1, "data.subset": 2, "training.batch_size": 1}
    more = 4 * (64 + 128)  # the input and the largest population of one example
    for optimizer, copies in (("sgd", 1), ({"kind": "sgd", "momentum": 0.5}, 2), ("adam", 3)):
        wanted = settings | {"training.optimizer": optimizer, "training.schedule": "constant"}
        for there, fits in ((4 * copies * 17_226 + more, True), (4 * copies * 17_226 + more - 1, False)):
            monkeypatch.setattr("neurosbd.training.capacity.room", lambda there=there: there)
            out = tmp_path / f"{copies}-{fits}"
            if fits:
                assert fit("digits-mlp", settings=wanted, out=out).result["status"] == "finished"
            else:
                with pytest.raises(UsageError, match=r"take 0\.0 GB, a batch of 1 examples at least 0\.0 GB"):
                    fit("digits-mlp", settings=wanted, out=out)
                assert not out.exists()


@pytest.mark.parametrize("problem", [MemoryError(), RuntimeError("x: can't allocate memory: you tried 9 bytes")])
def test_memory_that_ends_anywhere_is_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, problem: Exception
) -> None:
    def fail(kind: str) -> None:
        raise problem

    monkeypatch.setattr("neurosbd.cli.catalogue.catalogue", fail)
    assert main(["list", "models"]) == 1
    assert capsys.readouterr().err.startswith("neurosbd: the memory does not suffice (")

"""Products of 16 bits, operations that are the same every time, and a host that never waits for the device."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import neurosbd
from neurosbd.cli.main import main
from neurosbd.connections import CONNECTIONS
from neurosbd.connections.precision import in_precision
from neurosbd.connections.synapses import Synapses
from neurosbd.files import library
from neurosbd.learning.batch import Batch
from neurosbd.learning.learner import Learner
from neurosbd.learning.optimizer_step import apply
from neurosbd.losses.loss import Described
from neurosbd.network.network import Network
from neurosbd.runs.machine import deterministic_algorithms, failure
from neurosbd.training.parameter_groups import parameter_groups
from neurosbd.training.session import Session

HALF = 2**-8  # relative rounding of bfloat16
GEOMETRIES: dict[str, tuple[dict[str, Any], tuple[int, ...], tuple[int, ...]]] = {
    "dense": ({}, (40,), (30,)),
    "conv2d": ({"kernel": 3, "padding": 1}, (6, 8, 8), (5, 8, 8)),
    "local2d": ({"kernel": 3, "padding": 1}, (6, 8, 8), (5, 8, 8)),
    "vector": ({}, (20, 3), (10, 3)),
}
BF16 = {"training.precision": "bf16"}
SHORT = {"training.epochs": 3, "data.subset": 60}


def sides(name: str) -> tuple[Any, Any, Synapses, Tensor, Tensor]:
    """A geometry, the same with operands of bf16, its synapses, what arrives, and a post factor."""
    constants, pre, post = GEOMETRIES[name]
    geometry, draw = CONNECTIONS[name](**constants, bias=True), torch.Generator().manual_seed(0)
    weight, bias = geometry.start(geometry.weight_shape(pre, post), post, draw)
    assert bias is not None
    synapses = Synapses(weight, bias + 0.1)
    arriving = geometry.carry(torch.randn(16, *pre, generator=draw))
    return geometry, in_precision(geometry, "bf16"), synapses, arriving, torch.randn(16, *post, generator=draw)


def rounded(value: Tensor) -> Tensor:
    return value.bfloat16().float()


@pytest.mark.parametrize("name", GEOMETRIES)
def test_operands_and_results_are_rounded_and_sums_are_not(name: str) -> None:
    """Oracle: the product in float32 of operands that were rounded; the result is off by its own rounding alone.

    Must fail when an operand is left as it is (tried: what arrives), or when sums are rounded as well (tried: the
    kernels of a CPU for bfloat16, whose gradients of a convolution were off by 3 %).
    """
    plain, half, synapses, arriving, post = sides(name)
    short = Synapses(rounded(synapses.weight), rounded(synapses.bias))  # type: ignore[arg-type]
    pairs = [(half.drive(synapses, arriving), plain.drive(short, rounded(arriving)))]
    found, exact = half.outer(synapses, post, arriving), plain.outer(short, rounded(post), rounded(arriving))
    pairs += list(zip(found, exact, strict=True))
    for one, other in pairs:
        assert one.dtype == torch.float32 and one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=HALF, atol=0.0)
        assert not torch.equal(one, other)
    assert (
        isinstance(half, type(plain))
        and type(half).__name__ == type(plain).__name__
        and in_precision(plain, "float32") is plain
    )


@pytest.mark.parametrize(
    ("model", "rule"), [("digits-mlp", r) for r in ("sbd", "sbp", "dfa", "bp")] + [("digits-snn", "sbd")]
)
def test_a_training_in_bf16_learns_as_well(model: str, rule: str, tmp_path: Path) -> None:
    """Weights, projections and moments keep all their digits. Must fail when the weights themselves are rounded after
    every step (tried)."""
    short = SHORT if model == "digits-mlp" else {**SHORT, "training.epochs": 2, "data.test_subset": 20}
    runs = [
        neurosbd.fit(model, rule=rule, settings={**short, **more}, out=tmp_path / str(number), device="cpu")
        for number, more in enumerate(({}, BF16))
    ]
    wide, half = (run.metrics[-1] for run in runs)
    assert abs(wide["test_accuracy"] - half["test_accuracy"]) < 0.06 and wide["train_loss"] != half["train_loss"]
    for value in _tensors(runs[1].checkpoint()):
        finer = value.is_floating_point() and value.numel() > 100
        assert value.dtype != torch.bfloat16 and not (finer and torch.equal(value, rounded(value).to(value)))
    definition = json.loads((runs[1].path / "config.json").read_text())["definition"]
    assert definition["training"]["precision"] == "bf16" and runs[1].definition.training.precision == "bf16"


def _tensors(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [tensor for part in inner for tensor in _tensors(part)]


# Operations that are the same every time ------------------------------------------------------------


def test_a_deterministic_training_is_the_same_on_a_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one while it learns and no more afterwards, config.json says so, and the weights are those of without.

    Must fail when the mode is not set, or stays (tried)."""
    seen: list[bool] = []
    step = Session.step

    def watched(session: Session, asked: Any) -> Any:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return step(session, asked)

    monkeypatch.setattr(Session, "step", watched)
    short = [f"--set={key}={value}" for key, value in SHORT.items()]
    assert main(["fit", "digits-mlp", *short, "--out", str(tmp_path / "one"), "--deterministic"]) == 0
    assert all(seen) and seen and not torch.are_deterministic_algorithms_enabled()
    plain = neurosbd.fit("digits-mlp", settings=SHORT, out=tmp_path / "two", device="cpu")
    one = neurosbd.open_run(tmp_path / "one")
    assert one.definition.training.deterministic and not plain.definition.training.deterministic
    for a, b in zip(one.network().parameters(), plain.network().parameters(), strict=True):
        assert torch.equal(a, b)


def test_an_operation_without_such_a_form_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    problem = RuntimeError("cumsum_cuda does not have a deterministic implementation, but you set 'torch.use_")
    told = failure(problem, tmp_path)
    assert (
        told is not None
        and told.startswith("training.deterministic: cumsum_cuda does not have")
        and "leave it out" in told
    )
    with pytest.raises(ZeroDivisionError), deterministic_algorithms():
        assert torch.are_deterministic_algorithms_enabled() and os.environ["CUBLAS_WORKSPACE_CONFIG"]
        raise ZeroDivisionError
    assert not torch.are_deterministic_algorithms_enabled()


# The host does not wait for the device ---------------------------------------------------------------


def _trained(network: Network, device: torch.device, definition: Any) -> tuple[Learner, Any, Batch]:
    """A model on a device with its rule, its optimizer, and a batch of random inputs."""
    experiment = definition.build()
    steps, size = definition.time.steps, definition.input_size()
    learner = Learner(network, experiment.rule, experiment.loss, torch.Generator(device).manual_seed(0))
    optimizer = experiment.optimizer.build(parameter_groups(network, experiment, learner))
    x = torch.rand(min(steps, 8), 16, *size, device=device)
    loss = experiment.loss
    assert isinstance(loss, Described)
    some = loss.targets.support(definition.output_size()[0] // loss.parameters, torch.Generator().manual_seed(1))
    some = some[:10]  # of ten classes, where several units compete for each
    target = some[torch.randint(len(some), (16,))].to(device, some.dtype if some.dtype == torch.int64 else x.dtype)
    return learner, optimizer, Batch(x, target)


def _fits(model: str) -> bool:
    """Whether it learns a data set, so that `fit` takes it."""
    definition = neurosbd.load_model(model)
    return definition.simulation is None and definition.task is None and definition.protocol is None


FITTED = [model for model in library.names("models") if _fits(model)]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("model", FITTED)
def test_no_step_waits_for_the_device(model: str) -> None:
    """Of every model that learns a data set: 20 steps under `set_sync_debug_mode("error")`, after two that allocate.

    Must fail for a `.item()` in a step."""
    device, definition = torch.device("cuda"), neurosbd.load_model(model)
    learner, optimizer, batch = _trained(definition.network().to(device), device, definition)
    noise = torch.Generator(device).manual_seed(1)
    try:
        for number in range(22):
            torch.cuda.set_sync_debug_mode("error" if number >= 2 else "default")
            optimizer.zero_grad()
            learner.learn(batch, noise=noise)
            apply(optimizer)
            learner.after_step()
    finally:
        torch.cuda.set_sync_debug_mode("default")

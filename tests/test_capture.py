"""A batch that is replayed as one graph gives what the learner gives, bit for bit. Graphs are stood in for on a CPU."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import neurosbd
from neurosbd.learning.capture import Captured, why_eager
from neurosbd.learning.learner import Learner
from neurosbd.training import session
from neurosbd.training.parameter_groups import parameter_groups

WAITING = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default, torch.ops.aten.item.default}


class StandIn(TorchDispatchMode):
    """Takes every operation down with the tensors that it has, as a graph of a GPU does: a replay looks at the same
    memory and at the same numbers. What is carried out meanwhile is undone."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []
        self.own: set[int] = set()
        self.before: dict[int, tuple[torch.UntypedStorage, torch.UntypedStorage]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in WAITING:
            raise RuntimeError("operation not permitted when stream is capturing")
        given = {id(t): t for t in _tensors([*args, *(kwargs or {}).values()])}
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                self._keep(value)
        for argument in func._schema.arguments:
            if argument.kwarg_only and argument.alias_info is not None and argument.name in (kwargs or {}):
                self._keep(kwargs[argument.name])
        found = func(*args, **(kwargs or {}))
        there = {_storage(t) for t in given.values()}
        self.own |= {_storage(t) for t in _tensors([found])} - there
        self.operations.append((func, args, kwargs or {}, found))
        return found

    def _keep(self, value: Any) -> None:
        for tensor in _tensors([value]):
            storage = tensor.untyped_storage()
            if _storage(tensor) not in self.own and _storage(tensor) not in self.before:
                self.before[_storage(tensor)] = (storage, storage.clone())

    def capture(self, work: Callable[[], None]) -> None:
        try:
            with self:
                work()
        finally:
            for storage, before in self.before.values():
                storage.copy_(before)

    @torch.no_grad()
    def replay(self) -> None:
        for func, args, kwargs, found in self.operations:
            for place, value in zip(_tensors([found]), _tensors([func(*args, **kwargs)]), strict=True):
                if place.data_ptr() != value.data_ptr():
                    place.copy_(value)


def _tensors(values: Any) -> list[Tensor]:
    return [t for v in values for t in (_tensors(v) if isinstance(v, list | tuple) else [v]) if isinstance(t, Tensor)]


def _storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def trained(model: str, rule: str, settings: dict[str, Any], captured: bool, sizes: tuple[int, ...]) -> Any:
    """Weights, heads and states after some batches, and who learned them."""
    experiment = neurosbd.load_model(model, rule, settings).build()
    network = experiment.network
    learner = Learner(network, experiment.rule, experiment.loss, torch.Generator().manual_seed(1))
    optimizer = experiment.optimizer.build(parameter_groups(network, experiment, learner))
    teacher = Captured(learner, StandIn) if captured else learner
    generator, steps, results = torch.Generator().manual_seed(2), min(5, experiment.definition.time.steps), []
    for number, size in enumerate(sizes):
        learner.progress, noise = number / len(sizes), torch.Generator().manual_seed(number)
        x = (torch.rand(steps, size, 1, 8, 8, generator=generator) < 0.3).float()
        if not captured:
            optimizer.zero_grad()
        result = teacher.learn(neurosbd.Batch(x, torch.randint(10, (size,), generator=generator)), noise=noise)
        results += [result.loss.clone(), result.output.clone()]
        optimizer.step()
        learner.after_step()
    found = {**dict(network.named_parameters()), **dict(network.named_buffers()), **learner.parameters}
    states = learner.state_dict().get("modulators", {}).items()
    found |= {f"{name}.{key}": value for name, state in states for key, value in state.items()}
    return found, results, teacher


STANDARDISED = {"population.hidden1.neuron": {"kind": "standardised", "neuron": "relu"}}
MOVING = {
    "rule.neuromodulator.forgetting": {"start": 0.5, "end": 0.99},
    "rule.neuromodulator.fading": {"start": 0.9, "end": 1.0, "shape": "linear"},
}
CASES: list[tuple[str, str, dict[str, Any]]] = [
    ("digits-mlp", "sbd", {}),
    ("digits-mlp", "sbp", {}),
    ("digits-mlp", "dfa", {"rule.homeostasis": [{"kind": "power", "weight": 0.1}]}),
    ("digits-mlp", "sbd", {"rule.expansion": ["gated"], **STANDARDISED}),
    ("digits-snn", "sbd", {}),
    ("digits-snn", "eprop", {}),
    ("digits-snn", "sbd", {"time.block": 1}),
    ("digits-mlp", "sbd", MOVING),
    ("digits-mlp", "sbp", {"population.hidden1.dropout": 0.5}),
    ("digits-snn", "sbd", {"population.hidden1.neuron": {"kind": "escape"}, **MOVING}),
]


@pytest.mark.parametrize(("model", "rule", "settings"), CASES)
def test_replayed_batches_are_learned_from_bit_for_bit(model: str, rule: str, settings: dict[str, Any]) -> None:
    """Two as ever, then replayed, with a smaller one among them. Must fail when the state of the rule is not brought
    home, gradients are not cleared in their places, or the examples, the progress or the keys of random numbers stay
    those of the capture (all tried)."""
    sizes = (6, 6, 6, 6, 4, 6, 6)
    wanted, losses, _ = trained(model, rule, settings, False, sizes)
    found, again, teacher = trained(model, rule, settings, True, sizes)
    assert teacher.reason is None and teacher.replayed == 4
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name
    assert all(torch.equal(*pair) for pair in zip(losses, again, strict=True))


def test_nothing_moves_from_batch_to_batch() -> None:
    """Gradients and what the rule keeps lie where the graph finds them. Must fail when gradients are let go (tried)."""
    _, _, teacher = trained("digits-snn", "sbd", {}, True, (6,) * 4)
    network, places = teacher.learner.network, []
    for _ in range(2):
        teacher.learn(neurosbd.Batch(torch.rand(5, 6, 1, 8, 8), torch.arange(6)))
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        places.append([t.data_ptr() for t in (*gradients, *_tensors([list(teacher._state)]))])
    assert places[0] == places[1] and len(places[0]) > len(list(network.parameters()))


@pytest.mark.parametrize(
    ("model", "rule", "settings", "reason"),
    [
        ("digits-mlp", "fa", {}, "FeedbackAlignment is a procedure of its own"),
        ("digits-snn", "rstdp", {}, "rewards are computed by the host"),
    ],
)
def test_what_cannot_be_replayed_says_why(model: str, rule: str, settings: dict[str, Any], reason: str) -> None:
    experiment = neurosbd.load_model(model, rule, settings).build()
    learner = Learner(experiment.network, experiment.rule, experiment.loss, torch.Generator())
    found = why_eager(learner)
    assert found is not None and reason in found


def test_a_run_that_asks_for_a_graph_says_why_there_is_none(tmp_path: Path) -> None:
    """A warning, and config.json; the weights are the same."""
    how: dict[str, Any] = {"training.epochs": 1, "data.subset": 5}
    plain = neurosbd.fit("digits-mlp", settings=how, out=tmp_path / "plain")
    with pytest.warns(neurosbd.UsageWarning, match=r"training.graph: every batch is launched .* the device is cpu"):
        run = neurosbd.fit("digits-mlp", settings={**how, "training.graph": True}, out=tmp_path / "graph", device="cpu")
    assert "graphs are of a GPU" in json.loads((run.path / "config.json").read_text())["graph"]
    assert all(torch.equal(w, run.network().weights[n]) for n, w in plain.network().weights.items())


def test_a_session_replays_what_it_would_launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over epochs with a small last batch, clipping and an evaluation between. Must fail when gradients are let go
    between batches (tried)."""
    how: dict[str, Any] = {"training.epochs": 2, "data.subset": 10, "training.clip_norm": 0.1}
    plain = neurosbd.fit("digits-mlp", settings=how, out=tmp_path / "plain", device="cpu")
    monkeypatch.setattr(session.Session, "_why_eager", lambda self: None)
    monkeypatch.setattr(session, "Captured", lambda learner: Captured(learner, StandIn))
    run = neurosbd.fit("digits-mlp", settings={**how, "training.graph": True}, out=tmp_path / "graph", device="cpu")
    assert json.loads((run.path / "config.json").read_text())["graph"] == "replayed"
    assert all(torch.equal(w, run.network().weights[n]) for n, w in plain.network().weights.items())


def test_what_waits_for_the_device_is_learned_from_as_ever() -> None:
    """The entropy of a layer looks at its age. Must fail when a failed capture leaves something behind (tried)."""
    settings: dict[str, Any] = {"rule.homeostasis": [{"kind": "layer_entropy", "weight": 0.01, "refresh": 2}]}
    wanted, *_ = trained("digits-mlp", "sbd", settings, False, (6,) * 5)
    with pytest.warns(neurosbd.UsageWarning, match=r"training.graph: a batch could not be taken down .*not permitted"):
        found, _, teacher = trained("digits-mlp", "sbd", settings, True, (6,) * 5)
    assert teacher.replayed == 0 and "could not be taken down" in teacher.reason
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name

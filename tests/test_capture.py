"""A batch that is replayed as one graph gives what the learner gives, bit for bit. Graphs are stood in for on a CPU."""

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import neurosbd
from neurosbd.learning.capture import Captured, why_eager
from neurosbd.learning.learner import Learner
from neurosbd.learning.optimizer_step import RatePlaces, Update, why_on_host
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


@pytest.fixture(autouse=True)
def exact_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels of a CPU read learning rates in any type: in this one they are those of the schedule."""
    monkeypatch.setattr(RatePlaces, "TYPE", torch.float64)


def trained(
    model: str, rule: str, settings: dict[str, Any], captured: bool, sizes: tuple[int, ...], stepped: bool = True
) -> Any:
    """Weights, heads, states and moments after some batches, and who learned them; `stepped`: with the optimizer."""
    experiment = neurosbd.load_model(model, rule, settings).build()
    network = experiment.network
    learner = Learner(network, experiment.rule, experiment.loss, torch.Generator().manual_seed(1))
    optimizer = experiment.optimizer.build(parameter_groups(network, experiment, learner))
    update, schedule = Update(optimizer, 0.5), experiment.schedule.build(optimizer, 1, len(sizes))
    teacher = Captured(learner, StandIn, update if stepped else None) if captured else learner
    generator, steps, results = torch.Generator().manual_seed(2), min(5, experiment.definition.time.steps), []
    for number, size in enumerate(sizes):
        learner.progress, noise = number / len(sizes), torch.Generator().manual_seed(number)
        x = (torch.rand(steps, size, 1, 8, 8, generator=generator) < 0.3).float()
        if not captured:
            optimizer.zero_grad()
        result = teacher.learn(neurosbd.Batch(x, torch.randint(10, (size,), generator=generator)), noise=noise)
        results += [result.loss.clone(), result.output.clone()]
        if not (captured and stepped):
            update.clip()
            update.step()
        learner.after_step()
        schedule.step()
    found = {**dict(network.named_parameters()), **dict(network.named_buffers()), **learner.parameters}
    states = learner.state_dict().get("modulators", {}).items()
    found |= {f"{name}.{key}": value for name, state in states for key, value in state.items()}
    moments = [value for state in optimizer.state.values() for value in state.values()]
    return found | {f"moment {number}": value for number, value in enumerate(moments)}, results, teacher


STANDARDISED = {"population.hidden1.neuron": {"kind": "standardised", "neuron": "relu"}}
MOVING = {
    "rule.neuromodulator.forgetting": {"start": 0.5, "end": 0.99},
    "rule.neuromodulator.fading": {"start": 0.9, "end": 1.0, "shape": "linear"},
}
FALLING = {"training.schedule": {"kind": "cosine"}}
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
    ("digits-mlp", "sbd", {"training.optimizer": {"kind": "sgd", "lr": 0.1, "momentum": 0.9}, **FALLING}),
    ("digits-mlp", "sbd", {"training.optimizer": {"kind": "adamw", "lr": 1e-3}, **FALLING}),
    ("digits-mlp", "sbd", {"training.schedule": {"kind": "one_cycle"}}),
]


@pytest.mark.parametrize(("model", "rule", "settings"), CASES)
def test_replayed_batches_are_learned_from_bit_for_bit(model: str, rule: str, settings: dict[str, Any]) -> None:
    """Two as ever, then replayed with the optimizer's step, with a smaller one among them. Must fail when the state of
    the rule is not brought home, gradients are not cleared in their places, or the examples, the progress, the keys of
    random numbers or the learning rates stay those of the capture (all tried)."""
    sizes = (6, 6, 6, 6, 4, 6, 6)
    wanted, losses, _ = trained(model, rule, settings, False, sizes)
    found, again, teacher = trained(model, rule, settings, True, sizes)
    assert teacher.reason is None and teacher.replayed == 4
    for name, value in wanted.items():
        assert torch.equal(found[name], value), name
    assert all(torch.equal(*pair) for pair in zip(losses, again, strict=True))


def test_the_step_may_follow_the_graph() -> None:
    """As where something looks at the gradients between."""
    wanted, *_ = trained("digits-snn", "sbd", FALLING, False, (6,) * 5)
    found, _, teacher = trained("digits-snn", "sbd", FALLING, True, (6,) * 5, stepped=False)
    assert teacher.replayed == 3
    assert all(torch.equal(found[name], value) for name, value in wanted.items())


def test_nothing_moves_from_batch_to_batch() -> None:
    """Weights, gradients, what the rule keeps, moments and rates lie where the graph finds them, and there only. Must
    fail when gradients are let go, or a moment is made anew (both tried)."""
    _, _, teacher = trained("digits-snn", "sbd", {}, True, (6,) * 4)
    optimizer, rates = teacher.update.optimizer, teacher._rates.places

    def lasting() -> list[Tensor]:
        parameters = list(teacher.learner.network.parameters())
        gradients = [p.grad for p in parameters if p.grad is not None]
        assert len(gradients) == len(parameters)
        moments = [value for state in optimizer.state.values() for value in state.values()]
        return [*parameters, *gradients, *moments, *rates, *_tensors([list(teacher._state)])]

    places = [[t.data_ptr() for t in lasting()]]
    for number in range(2):
        optimizer.param_groups[0]["lr"] = 0.01 / (number + 1)
        teacher.learn(neurosbd.Batch(torch.rand(5, 6, 1, 8, 8), torch.arange(6)))
        assert rates[0].item() == 0.01 / (number + 1) and isinstance(optimizer.param_groups[0]["lr"], float)
        places.append([t.data_ptr() for t in lasting()])
    assert places[0] == places[1] == places[2]
    captured = {
        _storage(t) for _, args, more, _ in teacher._graph.operations for t in _tensors([*args, *more.values()])
    }
    assert {_storage(t) for t in lasting()} <= captured


def test_a_rate_that_is_a_number_stays_what_it_was() -> None:
    """The step of the optimizer as it stands, taken down: what the places are for."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], 1.0, fused=True)
    places, moves = RatePlaces(optimizer, torch.device("cpu")), []
    parameter.grad = torch.ones(1)
    for looked_up in (False, True):
        graph = StandIn()
        if looked_up:
            with places.looked_up():
                graph.capture(optimizer.step)
        else:
            graph.capture(optimizer.step)
        for rate in (1.0, 0.5):
            optimizer.param_groups[0]["lr"], before = rate, parameter.item()
            places.fill()
            graph.replay()
            moves.append(before - parameter.item())
        optimizer.param_groups[0]["lr"] = 1.0
    assert moves == [1, 1, 1, 0.5]


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: torch.optim.SGD(p, 0.1, fused=True), None),
        (lambda p: torch.optim.Adam(p, 0.1, capturable=True), None),
        (lambda p: torch.optim.Adam(p, 0.1), "Adam is built with neither fused=True nor capturable=True"),
        (lambda p: torch.optim.Rprop(p, 0.1), "Rprop is built with neither"),
    ],
)
def test_optimizers_that_count_on_the_host_say_so(make: Any, said: str | None) -> None:
    found = why_on_host(make([torch.nn.Parameter(torch.zeros(1))]))
    assert found is None if said is None else found is not None and said in found


@pytest.mark.parametrize("replayed_first", [True, False])
def test_a_checkpoint_goes_on_with_or_without_a_graph(replayed_first: bool) -> None:
    """From replayed to launched batches, as from a GPU to a CPU, and back: bit for bit what one of them gives. Must
    fail when the rates of a checkpoint are tensors, or groups stay marked as capturable (tried)."""
    wanted, *_ = trained("digits-snn", "sbd", FALLING, False, (6,) * 8)
    experiments = [neurosbd.load_model("digits-snn", "sbd", FALLING).build() for _ in range(2)]
    kept, found = None, None
    for part, experiment in enumerate(experiments):
        learner = Learner(experiment.network, experiment.rule, experiment.loss, torch.Generator().manual_seed(1))
        optimizer = experiment.optimizer.build(parameter_groups(experiment.network, experiment, learner))
        schedule, update = experiment.schedule.build(optimizer, 1, 8), Update(optimizer, 0.5)
        for holder, state in zip((experiment.network, learner, optimizer, schedule), kept or (), strict=False):
            holder.load_state_dict(state)
        replayed = replayed_first == (part == 0)
        captured, generator = Captured(learner, StandIn, update), torch.Generator().manual_seed(2)
        for number in range(8):
            x = (torch.rand(5, 6, 1, 8, 8, generator=generator) < 0.3).float()
            batch = neurosbd.Batch(x, torch.randint(10, (6,), generator=generator))
            if not 4 * part <= number < 4 * part + 4:
                continue
            learner.progress = number / 8
            if replayed:
                captured.learn(batch, torch.Generator().manual_seed(number))
            else:
                optimizer.zero_grad()
                learner.learn(batch, noise=torch.Generator().manual_seed(number))
                update.clip()
                update.step()
            learner.after_step()
            schedule.step()
        assert captured.replayed == (2 if replayed else 0)
        kept = [deepcopy(holder.state_dict()) for holder in (experiment.network, learner, optimizer, schedule)]
        for group in kept[2]["param_groups"]:
            assert type(group["lr"]) is float and group["capturable"] is False
        found = dict(experiment.network.named_parameters())
    assert found is not None and all(torch.equal(value, wanted[name]) for name, value in found.items())


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


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({}, "replayed"),
        (
            {"training.pruning": {"by": "saliency", "share": 0.5, "first": 1}},
            "replayed, without the optimizer's step: training.pruning looks at the gradients before it",
        ),
    ],
)
def test_a_session_replays_what_it_would_launch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any], said: str
) -> None:
    """Over epochs with a small last batch, clipping and an evaluation between, with the optimizer's step or, where that
    has to wait, without. Must fail when gradients are let go between batches, or a step is taken twice (both tried)."""
    how: dict[str, Any] = {"training.epochs": 2, "data.subset": 10, "training.clip_norm": 0.1, **FALLING, **more}
    plain = neurosbd.fit("digits-mlp", settings=how, out=tmp_path / "plain", device="cpu")
    monkeypatch.setattr(session.Session, "_why_eager", lambda self: None)
    monkeypatch.setattr(session, "Captured", lambda learner, update: Captured(learner, StandIn, update))
    run = neurosbd.fit("digits-mlp", settings={**how, "training.graph": True}, out=tmp_path / "graph", device="cpu")
    assert json.loads((run.path / "config.json").read_text())["graph"] == said
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

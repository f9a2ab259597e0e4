"""Several sessions of one definition but for their seeds, for a while as one: their networks learn side by side."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn

from neurosbd.config.definition import Experiment
from neurosbd.connections.dense import Dense
from neurosbd.connections.stacked import STACKED
from neurosbd.constraints import Mask
from neurosbd.files.checkpoints import StateDict
from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.learning.learner import Learner
from neurosbd.learning.optimizer_step import apply, learned_parameters
from neurosbd.learning.rule_state import LocalState
from neurosbd.learning.schedules import plain_state
from neurosbd.network.inputs import Frames
from neurosbd.network.network import Network
from neurosbd.neurons.neuron import Neuron
from neurosbd.training.parameter_groups import parameter_groups
from neurosbd.training.session import Session

FLUSH = 64  # batches whose outputs wait to be measured
LARGEST = 2**26  # multiplications of a batch in maps; where there are more, turns are faster (docs/speed.md)


def why_apart(experiment: Experiment) -> str | None:
    """Why the networks of an experiment with several seeds cannot learn side by side; None: they can."""
    network, definition, rule = experiment.network, experiment.definition, experiment.rule
    for connection in network.connections.values():
        if type(connection.geometry) not in STACKED:
            return f"connection '{connection.name}' is a {type(connection.geometry).__name__}"
        if connection.transmission.lasts:
            return f"connection '{connection.name}' has dynamics"
        if any(type(constraint) is not Mask for constraint in connection.constraints):
            return f"the weights of connection '{connection.name}' have constraints"
    if (products := _in_maps(experiment)) > LARGEST:
        return f"a batch takes {products:.1e} multiplications in its maps; above {LARGEST:.1e} turns are faster"
    for name, population in network.populations.items():
        if name in network.adaptive:
            return f"population '{name}' remembers what it measures of its own batches"
        if population.dropout or (population.neuron is not None and _draws(population.neuron, population.size)):
            return f"population '{name}' draws random numbers"
        if any(isinstance(value, Tensor | nn.Module) for value in vars(population.neuron or population).values()):
            return f"neurons of population '{name}' differ in their constants"
    if definition.record.signals:
        return "something is recorded"
    if definition.training.pruning is not None:
        return "training.pruning chooses the synapses of one network"
    if definition.training.least_score is not None or definition.training.speculation is not None:
        return "each network is to choose the examples that it learns from"
    return rule.why_apart(network)


def _in_maps(experiment: Experiment) -> int:
    """Multiplications of a batch of one network in all connections that are not dense."""
    definition, network = experiment.definition, experiment.network
    each = (
        connection.geometry.multiplications(network.weights[name].shape, network.populations[connection.pre].size)
        for name, connection in network.connections.items()
        if type(connection.geometry) is not Dense
    )
    return definition.training.batch_size * definition.time.steps * sum(each)


def _draws(neuron: Neuron, size: tuple[int, ...]) -> bool:
    """Whether a neuron draws from the generator of a run: its noise counts through the rows of one network."""
    generator = torch.Generator()
    before = generator.get_state()
    neuron.init(torch.zeros(1, *size), generator)
    return not torch.equal(generator.get_state(), before)


class Stack:
    """The networks of several sessions side by side, from the position where all of them are.

    Weights, projections and moments of the optimizer are copied into one tensor each, [networks, ..]; `hand_back`
    brings them where they came from, and every session is as if it had learned alone, but for rounding.

    Args:
        sessions: of definitions that differ in their seed alone, at one position, for which `why_apart` is None.
    """

    def __init__(self, sessions: Sequence[Session]) -> None:
        self.sessions = tuple(sessions)
        self.first = first = sessions[0]
        self.epoch, self.number = first.epoch, first.number
        self.network = _network(sessions)
        rule = first.experiment.rule.side_by_side(len(sessions))
        self.learner = Learner(self.network, rule, first.loss, torch.Generator())
        if isinstance(self.learner.state, LocalState):
            _stack_modulators(self.learner.state, [session.learner.state for session in sessions])
        training = first.definition.training
        self.optimizer = first.experiment.optimizer.build(
            parameter_groups(self.network, first.experiment, self.learner)
        )
        self.schedule = first.experiment.schedule.build(self.optimizer, training.epochs, len(first.batches))
        self._copy_optimizer()
        self._waiting: list[tuple[Batch, BatchResult]] = []

    def step(self) -> list[int]:
        """All learn from their next batch and move on.

        Returns:
            [], or the numbers of the sessions whose loss is seen not to be finite: then nobody has learned.
        """
        first, state = self.first, self.learner.state
        done = self.epoch * len(first.batches) + self.number
        self.learner.progress = done / (first.definition.training.epochs * len(first.batches))
        self.optimizer.zero_grad()
        batch = side_by_side([session.again(self.number)[0] for session in self.sessions])
        before = dict(state.modulators) if isinstance(state, LocalState) else {}
        result = self.learner.learn(batch)
        if first.looks_at(done):
            finite = torch.isfinite(result.loss).view(-1).tolist()  # of one network alone it is []
            if not all(finite):
                if isinstance(state, LocalState):
                    state.modulators.update(before)
                return [number for number, each in enumerate(finite) if not each]
        if first.definition.training.clip_norm is not None:
            _clip_each(learned_parameters(self.optimizer), first.definition.training.clip_norm)
        apply(self.optimizer)
        self.learner.after_step()
        self.schedule.step()
        self._waiting.append((replace(batch, inputs=iter(()), drives={}), result))  # the frames are not needed again
        if len(self._waiting) == FLUSH:
            self._measure()
        self.number += 1
        return []

    def read(self) -> dict[str, float]:
        """Means of the epoch so far, over all networks."""
        self._measure()
        every = [session.metric_sums.read() for session in self.sessions]
        return {name: sum(each[name] for each in every) / len(every) for name in every[0]}

    @torch.no_grad()
    def hand_back(self) -> None:
        """Bring every session to where its network is."""
        self._measure()
        stacked = dict(self.network.named_parameters())
        learned = learned_parameters(self.optimizer)
        for number, session in enumerate(self.sessions):
            session.number = self.number
            for name, parameter in session.network.named_parameters():
                parameter.copy_(stacked[name][number])
            if isinstance(self.learner.state, LocalState):
                _hand_back_modulators(self.learner.state, session.learner.state, number)
            for own, parameter in zip(learned_parameters(session.optimizer), learned, strict=True):
                if parameter in self.optimizer.state:
                    session.optimizer.state[own] = _of_one(self.optimizer.state[parameter], parameter, number, own)
            for own, group in zip(session.optimizer.param_groups, self.optimizer.param_groups, strict=True):
                own |= {key: value for key, value in group.items() if key != "params"}
            session.schedule.load_state_dict(plain_state(self.schedule))

    @torch.no_grad()
    def _copy_optimizer(self) -> None:
        """Put the optimizer and its schedule where those of the sessions are."""
        every = [learned_parameters(session.optimizer) for session in self.sessions]
        for parameter, owners in zip(learned_parameters(self.optimizer), zip(*every, strict=True), strict=True):
            pairs = zip((session.optimizer.state for session in self.sessions), owners, strict=True)
            states = [state[own] for state, own in pairs if own in state]
            if states:
                assert len(states) == len(self.sessions), "networks at one position have learned the same weights"
                self.optimizer.state[parameter] = _of_all(states, owners[0], parameter)
        for group, own in zip(self.optimizer.param_groups, self.first.optimizer.param_groups, strict=True):
            group |= {key: value for key, value in own.items() if key != "params"}
        self.schedule.load_state_dict(plain_state(self.first.schedule))

    def _measure(self) -> None:
        """Count the batches that wait, as if they were one."""
        if not self._waiting:
            return
        batches, results = zip(*self._waiting, strict=True)
        self._waiting = []
        count, axis = len(self.sessions), batches[0].target_axis
        target = torch.cat([batch.target for batch in batches], axis).unflatten(axis, (-1, count)).unbind(axis + 1)
        result = _joined(results, count)
        for number, session in enumerate(self.sessions):
            batch = Batch(iter(()), target[number], batches[0].weights)
            session.metric_sums.add(batch, _of_network(result, number))


@torch.no_grad()
def _network(sessions: Sequence[Session]) -> Network:
    """One network whose connections are those of all, with their weights."""
    first, networks = sessions[0].network, [session.network for session in sessions]
    connections = [
        replace(
            connection,
            geometry=STACKED[type(connection.geometry)](connection.geometry, len(networks)),
            constraints=() if first.present(connection) is None else (Mask(),),
        )
        for connection in first.connections.values()
    ]
    populations = list(first.populations.values())
    stacked = Network(populations, connections, torch.Generator(), first.dt, first.answer, first.block, first.fused)
    stacked.to(next(first.parameters()))
    for connection in stacked.connections.values():
        present = stacked.present(connection)
        if present is not None:
            present.copy_(torch.stack([cast(Tensor, network.present(connection)) for network in networks]))
    owners = [dict(network.named_parameters()) for network in networks]
    for name, parameter in stacked.named_parameters():
        parameter.copy_(torch.stack([own[name] for own in owners]))
    return stacked


def _stack_modulators(state: LocalState, owners: Sequence[LocalState]) -> None:
    """States of the neuromodulators, [networks, ..]; heads are Parameters again."""
    for name, own in owners[0].modulators.items():
        fields = [torch.stack(list(values)) for values in zip(*(o.modulators[name] for o in owners), strict=True)]
        made = (nn.Parameter(f) if isinstance(o, nn.Parameter) else f for f, o in zip(fields, own, strict=True))
        state.modulators[name] = type(own)(*made)


def _hand_back_modulators(state: LocalState, own: LocalState, number: int) -> None:
    """The state of one network; its heads stay the Parameters that its optimizer has."""
    for name, stacked in state.modulators.items():
        before = own.modulators[name]
        values = (
            there.copy_(value[number]) if isinstance(there, nn.Parameter) else value[number].clone()
            for value, there in zip(stacked, before, strict=True)
        )
        own.modulators[name] = type(before)(*values)


def _clip_each(parameters: Sequence[nn.Parameter], most: float) -> None:
    """Scale the gradient of every network whose norm is larger down to it, as torch.nn.utils.clip_grad_norm_ does."""
    gradients = [p.grad.view(len(p), -1) for p in parameters if p.grad is not None]
    squares = torch.stack([gradient.square().sum(1) for gradient in gradients]).sum(0)
    factors = (most / (squares.sqrt() + 1e-6)).clamp(max=1)
    for gradient in gradients:
        gradient.mul_(factors[:, None])


def _of_one(state: StateDict, stacked: Tensor, number: int, own: Tensor) -> StateDict:
    """What an optimizer remembers of the weights of one network, which are `own`."""
    return {
        key: value
        if not isinstance(value, Tensor)
        else _laid_as(own, value[number])
        if value.shape == stacked.shape
        else value.clone()
        for key, value in state.items()
    }


def _of_all(states: Sequence[StateDict], like: Tensor, stacked: Tensor) -> StateDict:
    """What optimizers remember of the weights of each network, as one, of weights `stacked`."""
    return {
        key: value
        if not isinstance(value, Tensor)
        else _laid_as(stacked, torch.stack([state[key] for state in states]))
        if value.shape == like.shape
        else value.clone()
        for key, value in states[0].items()
    }


def _laid_as(weight: Tensor, moments: Tensor) -> Tensor:
    """A copy that lies in memory as the weights do, since fused optimizers walk through both by their memory."""
    return torch.empty_like(weight, requires_grad=False).copy_(moments)


def side_by_side(batches: Sequence[Batch]) -> Batch:
    """Batches of as many networks as one: examples and within them networks."""
    axis = batches[0].target_axis
    inputs = Frames(len(batches[0].weights), _frames([batch.inputs for batch in batches]))
    target = torch.stack([batch.target for batch in batches], axis + 1).flatten(axis, axis + 1)
    drives = {
        name: torch.stack([batch.drives[name] for batch in batches], 2).flatten(1, 2) for name in batches[0].drives
    }
    return replace(batches[0], inputs=inputs, target=target, drives=drives, networks=len(batches))


def _frames(each: Sequence[Iterable[Tensor]]) -> Iterator[Tensor]:
    """Those of all networks in rows, step by step; what is shown again is put together once."""
    before: tuple[Tensor, ...] = ()
    shown = torch.empty(0)
    for frames in zip(*each, strict=True):
        if not before or any(now is not then for now, then in zip(frames, before, strict=True)):
            shown, before = torch.stack(frames, 1).flatten(0, 1), frames
        yield shown


def _joined(results: Sequence[BatchResult], networks: int) -> BatchResult:
    """Results of several batches as that of one, with an axis of networks: losses [networks], outputs [B, networks,
    C]."""
    outputs = [result.output.unflatten(0, (-1, networks)) for result in results]
    lengths = [len(output) for output in outputs]
    losses = torch.stack([result.loss.view(-1) for result in results])
    loss = losses.new_tensor(lengths) / sum(lengths) @ losses
    heads = {name: _joined([result.heads[name] for result in results], networks) for name in results[0].heads}
    return BatchResult(loss, torch.cat(outputs), heads)


def _of_network(result: BatchResult, number: int) -> BatchResult:
    heads = {name: _of_network(each, number) for name, each in result.heads.items()}
    return BatchResult(result.loss[number], result.output[:, number], heads)

"""CorInfoMax-EP: a network of three compartments learns from what a nudge of its readout changes."""

from typing import Annotated, ClassVar, Literal

import torch
from torch import Tensor

from neurosbd.connections.synapses import joins_pairs
from neurosbd.learning.batch import Batch, BatchResult
from neurosbd.learning.passes import Pass, Run
from neurosbd.learning.rule import Rule, TensorState
from neurosbd.losses import Loss
from neurosbd.losses.targets import as_vector
from neurosbd.network.network import Connection, Frame, Network
from neurosbd.neurons import CorInfoMax
from neurosbd.noise import new_key, uniform
from neurosbd.plasticity.correlative import update_inverse
from neurosbd.schema.constants import Count, NotNegative, Positive, Range, constants


@constants(called="corinfomax_ep")
class CorInfoMaxEP(Rule[TensorState]):
    """Contrastive CorInfoMax: what settles freely, against what settles with the readout nudged to the target.

        free      the steps of the trial, from rest
        nudged    some more, from there, with  - beta (r - target)  in the velocity of the readout
        basal, apical   d weight = -rate / beta mean_b ((r - weight pre) pre^T nudged - the same, free)
        lateral         B <- inverse(memory B^-1 + (1 - memory) mean_b r r^T), r nudged, after the optimizer's step

    for networks of neurons 'corinfomax' whose connections say on which compartment they end; the model
    digits-corinfomax-ep is one. Nothing is broadcast: the error travels by the settling.

    Args:
        beta: size of the nudge, > 0.
        sign: of beta: 'random' for every batch, so that its square cancels on average; or always 'positive'.
        nudged: steps of the second phase, >= 1.
        backward: rate of apical synapses, of that of basal ones, >= 0.
        memory: of the correlations in B, per batch, 0..1; 1: B stays.
    Source: Bozkurt, Pehlevan, Erdogan 2023, NeurIPS, arXiv 2306.04810, and their code (ContrastiveCorInfoMaxHopfield).
    Differs: B is the exact inverse (see `Correlative`), theirs its first order in 1 - memory. The neurons are ours: no
        pull to 0 where nobody is above, and a layer hears those above it one step late. The membrane goes on where it
        was; theirs restarts from the rate.
    """

    loss: str | None = "squared_error"
    showings: ClassVar[int] = 2

    beta: Positive = 1.0
    sign: Literal["random", "positive"] = "random"
    nudged: Count = 10
    backward: NotNegative = 0.2
    memory: Annotated[float, Range(above=0, most=1)] = 0.9999

    @property
    def hears_target(self) -> bool:
        """Through the settling."""
        return True

    @property
    def acts_after_step(self) -> bool:
        """B follows the activity."""
        return True

    def why_alone(self) -> str:
        """B follows the rates of a whole batch, and so do sign and phase."""
        return "the lateral weights of corinfomax_ep follow the rates of the examples at hand"

    def check(self, network: Network, loss: Loss | None) -> None:
        """Raise ValueError unless the network settles and its error can travel."""
        for name, connections in network.incoming.items():
            if not isinstance(network.populations[name].neuron, CorInfoMax):
                raise ValueError(
                    f"population '{name}': corinfomax_ep needs neurons 'corinfomax', which settle between what is "
                    f"below and above them; see the model digits-corinfomax-ep"
                )
            if name != network.readout and not any(c.compartment == "apical" for c in connections):
                raise ValueError(
                    f"population '{name}': no connection ends on its apical compartment, so that no nudge of the "
                    f"readout would reach it; add one from the population above, compartment = 'apical'"
                )
            for connection in connections:
                _check_connection(network, connection)

    def begin(self, network: Network, loss: Loss | None, generator: torch.Generator) -> TensorState:
        """The key of the signs, and how many batches there have been."""
        device = next(network.parameters()).device
        count = torch.zeros((), dtype=torch.int64, device=device)
        return TensorState({"key": new_key(generator, "the sign of a nudge", device), "batches": count})

    def learn(self, state: TensorState, run: Run, batch: Batch) -> BatchResult:
        """Both phases, and what they differ by."""
        network, free = run.network, None
        for free in run(batch):  # noqa: B007, the last one is at rest
            pass
        assert free is not None
        beta, target = self._beta(state, free), as_vector(free.target, free.value(network.readout))
        cell = network.populations[network.readout].neuron
        assert isinstance(cell, CorInfoMax)

        def drives(t: int, frame: Frame | None) -> dict[str, Tensor]:
            assert frame is not None
            # what reaches the soma is divided by epsilon, as a dendrite is
            return {network.readout: cell.epsilon * beta * (target - frame.activity[network.readout].value)}

        x, weights = free.value("input"), (0.0,) * (self.nudged - 1) + (1.0,)
        nudged, start = free, free.frame
        for nudged in run(Batch(x.expand(self.nudged, *x.shape), batch.target_at(free.t), weights), drives, start):  # noqa: B007
            pass
        for connection in network.connections.values():
            if connection.compartment == "lateral":
                state.tensors[f"rates {connection.name}"] = nudged.value(connection.post)
                continue
            rate = self.backward if connection.compartment == "apical" else 1.0
            for phase, share in ((nudged, -rate / beta), (free, rate / beta)):
                error, pre = _unpredicted(phase, connection)
                phase.deposit(connection, error * (share / len(error)), pre)
        state.tensors["batches"] += 1
        return run.result()

    def _beta(self, state: TensorState, free: Pass) -> Tensor:
        """With its sign, []."""
        like = free.value(free.run.network.readout).new_empty(())
        if self.sign == "positive":
            return like.new_tensor(self.beta)
        drawn = uniform(state.tensors["key"], state.tensors["batches"], like)
        return torch.where(drawn < 0.5, -1.0, 1.0).to(like) * self.beta

    def after_step(self, state: TensorState, network: Network) -> None:
        """B goes where the rates have been."""
        for connection in network.connections.values():
            rates = state.tensors.pop(f"rates {connection.name}", None)
            if rates is not None and connection.plastic and self.memory < 1:
                weight = network.weights[connection.name]
                weight.copy_(update_inverse(weight, rates, self.memory))


def _unpredicted(phase: Pass, connection: Connection) -> tuple[Tensor, Tensor]:
    """What a connection does not predict of the rates of its post population, [B, *size], and the rates it has."""
    network, geometry = phase.run.network, connection.geometry
    pre = geometry.carry(phase.value(connection.pre))
    return phase.value(connection.post) - geometry.drive(network.synapses(connection), pre), pre


def _check_connection(network: Network, connection: Connection) -> None:
    weight, size = network.weights[connection.name], network.populations[connection.post].size
    if network.longest[connection.name] > 1:
        raise ValueError(
            f"connection '{connection.name}': corinfomax_ep compares two states of rest, which a delay would outlast; "
            f"leave it out"
        )
    if connection.compartment != "lateral":
        return
    if not (joins_pairs(weight, size) and weight.shape[0] == weight.shape[1]) or connection.geometry.bias:
        raise ValueError(
            f"connection '{connection.name}': lateral synapses hold the inverse correlation of a layer, so they need a "
            f"dense connection without a bias from the layer onto itself"
        )

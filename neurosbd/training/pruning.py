"""Pruning: synapses go by what they know themselves, while a network learns or at its end."""

import torch
from torch import Tensor

from neurosbd.config.definition import Experiment
from neurosbd.config.pruning import PruningSpec
from neurosbd.errors import UsageError
from neurosbd.files.checkpoints import StateDict
from neurosbd.network.network import Network


class Pruning:
    """Takes the synapses out that count least, connection by connection, after the epochs that it is asked for.

        magnitude   |weight|
        saliency    mean over batches of |weight x gradient|, the gradient being what the rule has left at the synapse:
                    its local factors times whatever is broadcast to its population

    Of `share`, after epoch e of first..last:  share (1 - (1 - (e - first + 1) / (last - first + 1))^3); what has gone
    does not come back. Of `group = [n, m]` n of every m synapses in a row onto a unit stay, once, after `first`.

    Args:
        spec: how much, when, and by what.
        network: whose plastic connections are pruned.
    Raises:
        ValueError: naming the connection, if nothing would be left of it, or its synapses make no groups.
    Source: Zhu, Gupta 2017, arXiv 1710.01878 (schedule); Lee, Ajanthan, Torr 2019, ICLR (saliency); Mishra et al. 2021,
        arXiv 2104.08378 (groups).
    Differs: the saliency is that of the rule's own gradient and averaged over batches, theirs of backprop on one batch.
    """

    def __init__(self, spec: PruningSpec, network: Network) -> None:
        self.spec = spec
        self.batches = 0
        self.scores: dict[str, Tensor] = {}
        for name, connection in network.connections.items():
            if not connection.plastic:
                continue
            weight = network.weights[name]
            self.scores[name] = torch.zeros_like(weight)
            if spec.group is not None and weight[0].numel() % spec.group[1]:
                raise ValueError(
                    f"connection '{name}' has {weight[0].numel()} synapses onto a unit, which make no groups of "
                    f"{spec.group[1]}; choose training.pruning.group or the sizes so that they do"
                )
            left = weight.numel() - round(spec.share * weight.numel())
            if spec.group is None and not left:
                raise ValueError(
                    f"training.pruning.share = {spec.share:g} would leave nothing of the {weight.numel()} synapses of "
                    f"connection '{name}'; legal are shares up to {1 - 1 / weight.numel():.4g}"
                )

    @classmethod
    def of(cls, experiment: Experiment) -> "Pruning | None":
        """What `training.pruning` asks for, if it does.

        Raises:
            UsageError: if the network cannot be pruned so, or the epochs are none of the training.
        """
        spec, definition = experiment.definition.training.pruning, experiment.definition
        if spec is None:
            return None
        last = definition.training.epochs
        if spec.last is not None and spec.last > last:
            raise UsageError(
                f"{definition.name}: training.pruning.last = {spec.last}, but the training has {last} epochs; legal "
                f"are {spec.first or 1} to {last}, or leave it out: the last"
            )
        if spec.first is not None and spec.first > last:
            raise UsageError(
                f"{definition.name}: training.pruning.first = {spec.first}, but the training has {last} epochs"
            )
        try:
            return cls(_with_epochs(spec, last), experiment.network)
        except ValueError as problem:
            raise UsageError(f"{definition.name}: {problem}") from None

    @property
    def looks(self) -> bool:
        """Whether it looks at gradients."""
        return self.spec.by == "saliency"

    def look(self, network: Network) -> None:
        """The gradients of a batch are there, and the weights are still those that gave them."""
        if self.looks:
            self.batches += 1
            for name, score in self.scores.items():
                gradient = network.weights[name].grad
                if gradient is not None:
                    score += (network.weights[name].detach() * gradient).abs()

    @torch.no_grad()
    def prune(self, network: Network, epoch: int) -> None:
        """After epoch `epoch`, from 1."""
        assert self.spec.first is not None and self.spec.last is not None
        if not self.spec.first <= epoch <= self.spec.last or (self.spec.group and epoch > self.spec.first):
            return
        done = (epoch - self.spec.first + 1) / (self.spec.last - self.spec.first + 1)
        for name, score in self.scores.items():
            counts = score if self.spec.by == "saliency" else network.weights[name].abs()
            there = network.present(network.connections[name])
            counts = counts if there is None else counts.where(there > 0, -1.0)  # what has gone goes first
            if self.spec.group is not None:
                kept = grouped(counts, *self.spec.group)
            else:
                kept = strongest(counts, self.spec.share * (1 - (1 - done) ** 3))
            network.prune(name, kept if there is None else kept * there)
            score.zero_()
        self.batches = 0

    def state_dict(self) -> StateDict:
        """What has been seen since synapses went."""
        return {"scores": dict(self.scores), "batches": self.batches}

    def load_state_dict(self, saved: StateDict) -> None:
        """Put back what `state_dict` gave."""
        self.batches = saved["batches"]
        for name, score in self.scores.items():
            score.copy_(saved["scores"][name])


def _with_epochs(spec: PruningSpec, epochs: int) -> PruningSpec:
    """The same with its epochs said: none given is the last one."""
    last = epochs if spec.last is None else spec.last
    return spec.model_copy(update={"first": last if spec.first is None else spec.first, "last": last})


def strongest(counts: Tensor, share: float) -> Tensor:
    """1 where a synapse stays, 0 for the `share` of them that count least; of equals the last go."""
    gone = round(share * counts.numel())
    kept = torch.ones_like(counts).flatten()
    kept[counts.flatten().argsort(descending=True, stable=True)[counts.numel() - gone :]] = 0
    return kept.view_as(counts)


def grouped(counts: Tensor, kept: int, of: int) -> Tensor:
    """1 for the `kept` strongest of every `of` synapses in a row onto a unit, else 0; of equals the first stay."""
    rows = counts.reshape(-1, of)
    order = rows.argsort(dim=1, descending=True, stable=True)
    return torch.zeros_like(rows).scatter_(1, order[:, :kept], 1.0).view_as(counts)

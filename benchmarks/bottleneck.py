"""Does a layer align with its feedback when hardly any of its own synapses may learn? DFA, a bottleneck of plasticity.

    python benchmarks/bottleneck.py --plastic 1 800                      # all of CIFAR-10, 50 epochs, as published
    python benchmarks/bottleneck.py --plastic 1 800 --train 500 --epochs 10

3072-800-800-800-10 tanh units under DFA; of the synapses (and biases) onto the second hidden layer a share of b / 800,
drawn once, learns. Printed for each b: test accuracy, and for each hidden layer the mean over 128 test images of the
cosine between what DFA sends it and the true gradient at its activity.

Source: Launay, Poli, Krzakala 2019, arXiv 1906.04554, and its code: one shared matrix of norm 1, SGD 5e-4 on the mean
    loss for the readout and on the sum over a batch of 128 for hidden layers. Differs: the true gradient is that of the
    whole network, where there the mask is on its way to the first layer, too.
"""

import argparse
from typing import Any

import torch
from torch import Tensor

import neurosbd
from neurosbd.learning.learner import Learner
from neurosbd.runs.batches import DatasetBatches
from neurosbd.seeds import generator
from neurosbd.training.session import Session

HIDDEN = ("hidden1", "hidden2", "hidden3")
SETTINGS: dict[str, object] = {
    **{f"population.{name}.size": [800] for name in HIDDEN},
    **{f"population.{name}.neuron": "tanh" for name in HIDDEN},
    **{f"connection.{n}.sparsity": 0.0 for n in range(3)},
    "connection.3.weight": "kaiming_normal",
    "rule.neuromodulator": {
        "kind": "fixed_random", "layout": "full", "scale": 1.0, "per": "projection", "matrix": "shared",
    },
    "data.flip": False,
    "training.batch_size": 128,
    "training.optimizer": {"kind": "sgd", "lr": 5e-4 * 128},
    "training.schedule": {"kind": "constant"},
    "training.rates": {"output": 1 / 128},
}  # fmt: skip


def trained(plastic: int, epochs: int, train: int | None, seed: int) -> Session:
    """A session at its end, of whose synapses onto the second layer a share of plastic / 800 has learned."""
    settings = SETTINGS | {"training.epochs": epochs, "seed": seed} | ({"data.subset": train} if train else {})
    definition = neurosbd.load_model("cifar10-mlp", rule="dfa", settings=settings)
    experiment, cpu = definition.build(), torch.device("cpu")
    data = neurosbd.load_data("cifar10", subset=train)
    session = Session(experiment, DatasetBatches(experiment, data, cpu), cpu)
    hold(session, plastic, generator(seed, "bottleneck"))
    while session.epoch < epochs:
        for _ in range(len(session.batches)):
            session.step()
        session.next_epoch()
    return session


def hold(session: Session, plastic: int, draw: torch.Generator) -> None:
    """Let a share of plastic / 800 of the synapses and biases onto the second layer learn."""
    name = "hidden1->hidden2"
    held = [session.network.weights[name], session.network.biases[name]]
    masks = [(torch.rand(parameter.shape, generator=draw) < plastic / 800).to(parameter) for parameter in held]

    def mask(optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        for parameter, there in zip(held, masks, strict=True):
            assert parameter.grad is not None
            parameter.grad.mul_(there)

    session.optimizer.register_step_pre_hook(mask)


def alignment(learner: Learner, x: Tensor, target: Tensor) -> list[float]:
    """Mean over examples of the cosine between score x projection and the gradient at the activity of each layer."""
    network = learner.network
    weights = {name: weight.detach() for name, weight in network.weights.items()}
    biases = {name: bias.detach() for name, bias in network.biases.items()}
    h, activity = x.flatten(1), []
    for pre, post in zip(("input", *HIDDEN), HIDDEN, strict=False):
        h = torch.tanh(h @ weights[f"{pre}->{post}"].t() + biases[f"{pre}->{post}"]).requires_grad_()
        activity.append(h)
    output = h @ weights["hidden3->output"].t() + biases["hidden3->output"]
    loss = torch.nn.functional.cross_entropy(output, target, reduction="sum")
    score, *exact = torch.autograd.grad(loss, [output, *activity])
    sent = learner.rule.projections(learner.state)
    return [
        torch.cosine_similarity(score @ sent[name], gradient, dim=1).mean().item()
        for name, gradient in zip(HIDDEN, exact, strict=True)
    ]


def main() -> None:
    """A line for every b."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0] if __doc__ else None)
    parser.add_argument("--plastic", type=int, nargs="+", default=[1, 800], help="b, of 800")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--train", type=int, default=None, help="images per class; default: all")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    for plastic in asked.plastic:
        session = trained(plastic, asked.epochs, asked.train, asked.seed)
        batch = next(session.batches.tests())
        cosines = alignment(session.learner, next(iter(batch.inputs)), batch.target)
        found = session.evaluate()
        cells = "  ".join(f"{name} {cosine:.3f}" for name, cosine in zip(HIDDEN, cosines, strict=True))
        print(f"b = {plastic:3}: test accuracy {found['accuracy']:.1%}, cosine {cells}", flush=True)


if __name__ == "__main__":
    main()

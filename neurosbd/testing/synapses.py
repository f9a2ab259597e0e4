"""What every synapse and every short-term plasticity keeps: responses that are linear and exact for every step."""

import math

import torch
from torch import Tensor

from neurosbd.synapses import Conductive
from neurosbd.testing.judging import DT, Check, Make, close, demand, drawn, identical, no_values

_MEMBRANE = 20e-3


def _responses(make: Make, arrivals: Tensor, dt: float, tau_mem: float | None = None) -> Tensor:
    """What is felt in every step, [T, ..]."""
    synapse, found = make(), []
    state = synapse.init(arrivals[0])
    for arrived in arrivals:
        state = synapse.arrive(state, arrived, dt)
        found.append(synapse.value(state, dt, tau_mem))
    return torch.stack(found)


def response_is_linear(make: Make) -> None:
    """Weights before or behind it make no difference. Must fail for one that saturates."""
    arrivals, weights = drawn(9, 3, 5), drawn(4, 5, seed=1)
    sentence = "A response must be linear: weights times the response is not the response of weights times arrivals"
    close(
        _responses(make, arrivals @ weights.t(), DT),
        _responses(make, arrivals, DT) @ weights.t(),
        sentence,
        1e-10,
        1e-12,
    )


def response_is_exact(make: Make) -> None:
    """Two steps of half the duration are one. Must fail for an Euler step (tried)."""
    once = torch.zeros(8, 1, 1, dtype=torch.float64)
    twice = torch.zeros(16, 1, 1, dtype=torch.float64)
    once[1], once[4], twice[2], twice[8] = 1.0, -0.5, 1.0, -0.5
    one, two = _responses(make, once, DT), _responses(make, twice, DT / 2)[::2]
    close(one, two, "A response depends on the duration of the steps in which it is followed", 1e-10, 1e-12)


def membrane_is_exact(make: Make) -> None:
    """A leaky membrane under what is felt ends where it does in steps of half the duration, once nothing arrives."""
    if isinstance(make(), Conductive) or not _responses(make, _one_arrival(8), DT)[2:].any():
        return  # a membrane weighs a conductance; a pulse belongs to its step

    def potential(steps: int, dt: float) -> Tensor:
        v, alpha = torch.zeros(1, 1, dtype=torch.float64), math.exp(-dt / _MEMBRANE)
        for value in _responses(make, _one_arrival(steps), dt, _MEMBRANE):
            v = alpha * v + (1 - alpha) * value
        return v

    close(potential(8, DT), potential(16, DT / 2), "What is felt is not what changes a leaky membrane as much", 1e-9)


def _one_arrival(steps: int) -> Tensor:
    arrivals = torch.zeros(steps, 1, 1, dtype=torch.float64)
    arrivals[0] = 1.0
    return arrivals


def synapse_step_is_pure(make: Make) -> None:
    """Nothing is written in place, and what is felt is not the state itself; types stay; no value is looked at."""
    for dtype in (torch.float32, torch.float64):
        synapse, arrived = make(), drawn(3, 4, dtype=dtype)
        state = synapse.arrive(synapse.init(arrived), arrived, DT)
        kept, given = [part.clone() for part in state], arrived.clone()
        after, value = synapse.arrive(state, arrived, DT), synapse.value(state, DT, None)
        demand(value.dtype == dtype and all(part.dtype == dtype for part in after), f"Everything must stay {dtype}")
        value.add_(1)
        for part, before in zip((*state, arrived), (*kept, given), strict=True):
            identical(part, before, "A synapse writes into its state or its arrivals, or what is felt lies in them")
    with no_values("synapse"):
        nothing = torch.empty(3, 4, device="meta")
        synapse.value(synapse.arrive(synapse.init(nothing), nothing, DT), DT, None)


SYNAPSE_CHECKS: tuple[Check, ...] = (response_is_linear, response_is_exact, membrane_is_exact, synapse_step_is_pure)


def check_synapse(make: Make) -> None:
    """Everything that the contract of a synapse promises; see `check_neuron`."""
    for check in SYNAPSE_CHECKS:
        check(make)


def _sent(make: Make, arrivals: Tensor, dt: float) -> Tensor:
    short_term, found = make(), []
    state = short_term.init(arrivals[0])
    for arriving in arrivals:
        sent, state = short_term.step(state, arriving, dt)
        found.append(sent)
    return torch.stack(found)


def short_term_is_exact(make: Make) -> None:
    """Between spikes, two steps of half the duration are one. Must fail for an Euler step (tried)."""
    once = (drawn(12, 2, 3) > 0.3).double()
    twice = torch.zeros(24, 2, 3, dtype=torch.float64)
    twice[::2] = once
    sentence = "Short-term plasticity depends on the duration of the steps in which it is followed"
    close(_sent(make, once, DT), _sent(make, twice, DT / 2)[::2], sentence, 1e-10)


def short_term_is_pure(make: Make) -> None:
    """Nothing is sent without a spike; nothing is written in place; every unit and example goes by itself."""
    arrivals = (drawn(12, 2, 3) > 0.3).double()
    given, sent = arrivals.clone(), _sent(make, arrivals, DT)
    identical(arrivals, given, "Short-term plasticity writes into what arrives")
    demand(not sent[arrivals == 0].any(), "Something is sent where no spike arrives")
    identical(
        _sent(make, arrivals[:, :1, :1], DT), sent[:, :1, :1], "A unit alone sends other spikes than among others"
    )
    with no_values("short-term plasticity"):
        nothing = torch.empty(3, 4, device="meta")
        make().step(make().init(nothing), nothing, DT)


SHORT_TERM_CHECKS: tuple[Check, ...] = (short_term_is_exact, short_term_is_pure)


def check_short_term(make: Make) -> None:
    """Everything that the contract of a short-term plasticity promises; see `check_neuron`."""
    for check in SHORT_TERM_CHECKS:
        check(make)

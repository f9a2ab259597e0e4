"""What the checkpoint of a free run must be before it is taken up: nothing in it that this run could not have left."""

from pathlib import Path
from typing import TYPE_CHECKING

from neurosbd.errors import OUT, UsageError
from neurosbd.files.checkpoints import StateDict, check
from neurosbd.rewards import Delivery
from neurosbd.rewards.delivery import Underway
from neurosbd.stimuli.dataset import Place
from neurosbd.stimuli.stimulator import AHEAD, Stimulator
from neurosbd.stimuli.stimulus import KeyedStepsDone, StepsDone
from neurosbd.training.restoring import check_finite, check_optimizer, check_recorder, check_schedule, refuse

if TYPE_CHECKING:
    from neurosbd.experiments.free_session import FreeSession

_COUNTING = (StepsDone, KeyedStepsDone, Place, Underway)  # states that count their steps as `done`


def verify(session: "FreeSession", state: StateDict, path: Path) -> None:
    """Compare a checkpoint with a session that has not begun: every key, type, shape and range but those of the states
    of membranes, traces, stimuli and rewards, which `as_state` takes one by one.

    Raises:
        UsageError: naming what cannot be from this run. The session is as it was.
    """
    own = session.state_of_parts()
    lacking = [part for part in (*own, "recorder") if part not in state]
    if lacking:
        raise UsageError(f"{path}: the checkpoint has no '{lacking[0]}'; another program wrote it")
    step = _check_step(session, state, path)
    for part in ("network", "learner", "sums"):
        check(state[part], own[part], path, part)
    check_finite(state["network"], session.network, path)
    if session.optimizer is None:
        check(state["optimizer"], None, path, "optimizer")
    else:
        choice = session.experiment.optimizer
        check_optimizer(state["optimizer"], session.optimizer, choice, step // session.times.update, path)
    if session.schedule is not None:
        check_schedule(state["schedule"], own["schedule"], step // session.times.update, path)
    check_recorder(state["recorder"], session.recorder, path)
    _check_weights_at_report(session, state["at_report"], path)
    _check_stimuli(session.stimulator, state["stimuli"], step, path)
    if session.delivery is None:
        check(state["rewards"], None, path, "rewards")
    else:
        _check_rewards(session.delivery, state["rewards"], step, path)


def _check_step(session: "FreeSession", state: StateDict, path: Path) -> int:
    """The step that it is of, at which an update ends."""
    step, times = state["number"], session.times
    if (
        type(step) is not int
        or not 0 < step <= times.steps
        or (step % times.report % times.update and step < times.steps)
    ):
        refuse(path, "number", step, f"a step in 1..{times.steps} at which an update ends")
    if state["epoch"] != (reports := -(-step // times.report) if step == times.steps else step // times.report):
        refuse(path, "epoch", state["epoch"], f"{reports}, the reports of {step} steps")
    return step


def _check_weights_at_report(session: "FreeSession", given: object, path: Path) -> None:
    """Weights of connections of this network at the last report."""
    weights = {name: weight.detach() for name, weight in session.network.weights.items()}
    names = given if isinstance(given, dict) else {}
    check(given, {name: weight for name, weight in weights.items() if name in names}, path, "at_report")


def _check_stimuli(stimulator: Stimulator, given: StateDict, step: int, path: Path) -> None:
    """The block that the step is in, with the states at its beginning; files as they were."""
    content = stimulator.content()
    states = given.get("states") if isinstance(given, dict) else None
    check(given, {"block": 0, "states": states, "content": content}, path, "stimuli")
    block = (step - 1) // AHEAD
    if given["block"] != block:
        refuse(path, "stimuli.block", given["block"], f"{block}, the one of step {step}")
    if given["content"] != content:
        pairs = zip(given["content"], content, stimulator.stimulations, strict=False)
        files = [getattr(each.stimulus, "file", each.population) for was, now, each in pairs if was != now]
        raise UsageError(
            f"{path}: {', '.join(files) or 'a file of spikes'} has changed since, so that the run cannot go on as it "
            f"began; put the old one back, or start anew in another {OUT}"
        )
    for number, part in enumerate(_parts(states, len(stimulator.spans), path, "stimuli.states")):
        first, last = stimulator.spans[number].within(0, block * AHEAD)
        _check_done(part, stimulator.states[number], last - first, path, f"stimuli.states.{number}")


def _check_rewards(delivery: Delivery, given: object, step: int, path: Path) -> None:
    """What has been earned after so many steps."""
    for number, part in enumerate(_parts(given, len(delivery.states), path, "rewards")):
        _check_done(part, delivery.states[number], step, path, f"rewards.{number}")


def _parts(given: object, count: int, path: Path, where: str) -> list[object]:
    if not isinstance(given, list) or len(given) != count:
        refuse(path, where, given, f"a list of {count}")
    return given


def _check_done(given: object, like: object, done: int, path: Path, where: str) -> None:
    """A state that counts the steps it has seen has seen so many."""
    if isinstance(like, _COUNTING):
        value = _parts(given, len(like), path, where)[like._fields.index("done")]
        if type(value) is not int or value != done:
            refuse(path, f"{where}.done", value, f"{done}, the steps that it has seen")

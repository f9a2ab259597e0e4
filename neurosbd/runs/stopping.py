"""Early stopping: a training ends when the validation split has not been met better for some epochs."""

import math
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from neurosbd.config.definition import Experiment
from neurosbd.errors import UsageError, nearest
from neurosbd.files.checkpoints import StateDict
from neurosbd.runs.batches import BatchSource


class Stopping:
    """What is the best epoch so far, by a metric of the validation split, and whether to go on.

    Args:
        metric: its key in metrics.jsonl.
        patience: epochs without a better value, after which the training ends.
        sign: 1 where higher is better, -1 for a loss.
    """

    def __init__(self, metric: str, patience: int, sign: int) -> None:
        self.metric, self.patience, self.sign = metric, patience, sign
        self.best = math.nan
        self.epoch = 0  # of the best, from 1; 0: no epoch had a value that is a number

    @classmethod
    def of(
        cls, experiment: Experiment, batches: BatchSource, unjudged: Mapping[str, str] = MappingProxyType({})
    ) -> "Stopping | None":
        """What `training.stop` asks for, if it does.

        Args:
            experiment: that is trained.
            batches: with a validation split.
            unjudged: outputs that nothing teaches, and why, see `hearing.unjudged`.
        Raises:
            UsageError: if there is no validation split, or it has no such metric.
        """
        definition = experiment.definition
        asked, name = definition.training.stop, definition.name
        if asked is None:
            return None
        if definition.readout in unjudged:
            raise UsageError(
                f"{name}: training.stop waits for a better {asked.metric}, but {unjudged[definition.readout]}, so that "
                f"no epoch is better than another; leave training.stop out, and set training.epochs"
            )
        if not batches.validated:
            how = (
                "a task draws new trials all the time and has none: remove training.stop"
                if experiment.task
                else "hold some training examples out: data.validation = 0.1"
            )
            raise UsageError(f"{name}: training.stop looks at the validation split, but there is none; {how}")
        signs = {"validation_loss": -1}
        signs |= {f"validation_{m.name}": 1 for m in batches.measures if m.higher_is_better}
        if asked.metric not in signs:
            raise UsageError(f"{name}: training.stop.metric: no '{asked.metric}' here{nearest(asked.metric, signs)}")
        return cls(asked.metric, asked.patience, signs[asked.metric])

    def look(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Remember an epoch, counted from 1, if it is better than all before; of equal ones the first is the best."""
        value = metrics[self.metric]
        if not math.isnan(value) and (self.epoch == 0 or self.sign * value > self.sign * self.best):
            self.best, self.epoch = float(value), epoch

    def over(self, epochs: int) -> bool:
        """Whether the training ends after so many epochs."""
        return epochs - self.epoch >= self.patience

    def reason(self, epochs: int) -> str:
        """Why it ended, in a sentence."""
        count = epochs - self.epoch
        long = f"for {count} epoch{'s' if count > 1 else ''} (training.stop.patience)"
        if self.epoch == 0:
            return f"{self.metric} was no number {long}"
        return f"{self.metric} was not better than {self.best:.6g}, that of epoch {self.epoch}, {long}"

    def state_dict(self) -> StateDict:
        """The best epoch and its value."""
        return {"best": self.best, "epoch": self.epoch}

    def load_state_dict(self, state: StateDict) -> None:
        """Go on from what `state_dict` gave."""
        self.best, self.epoch = state["best"], state["epoch"]

    def verify(self, state: object, epochs: int, path: Path) -> None:
        """Refuse a state that cannot be that of this training after so many epochs.

        Raises:
            UsageError: naming the checkpoint and what is wrong.
        """
        legal = (
            isinstance(state, dict)
            and state.keys() == {"best", "epoch"}
            and type(state["epoch"]) is int
            and 0 <= state["epoch"] <= epochs
            and type(state["best"]) is float
            and math.isnan(state["best"]) == (state["epoch"] == 0)
        )
        if not legal:
            raise UsageError(
                f"{path}: the checkpoint was changed: stop is {str(state)[:60]}; here it can only be the best epoch, "
                f"0..{epochs}, and its {self.metric}"
            )

"""A job as it is asked for: what `fit` and `simulate` have in common."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from neurosbd.config.definition import Definition
from neurosbd.config.resolve import resolve
from neurosbd.files.parsing import Json, JsonTable
from neurosbd.files.writing import legal_path
from neurosbd.runs.directory import RUNS
from neurosbd.runs.loggers import Loggers
from neurosbd.runs.records import read_config
from neurosbd.runs.run import CONFIG
from neurosbd.schema import plugins


@dataclass(frozen=True)
class Job:
    """The arguments of `fit` and `simulate` that both of them take.

    model: a shipped model or a .toml file.
    rule, recipe: in place of the model's own.
    settings: further values by dotted key, the seed among them.
    record: signals to keep in the trace besides the model's own.
    out: run directory; none: runs/MODEL-RULE-seedN.
    device: by name.
    resume: whether to go on with a run that is there.
    loggers: told how it goes on.
    seeds: that it is one of, and how they are carried out; None: it is alone.
    """

    model: str | Path
    rule: str | None
    recipe: str | None
    settings: Mapping[str, Json]
    record: tuple[str, ...]
    out: str | Path | None
    device: str | torch.device
    resume: bool
    loggers: Loggers
    seeds: JsonTable | None = None

    def definition(self) -> Definition:
        """What the model file, the rule, the recipe and the settings resolve to; the file is read once.

        Raises:
            UsageError: if one of them is not valid; the message names all that are not.
        """
        self._check_plugins()
        return resolve(self.model, self.rule, self.settings, self.recipe, self.record).definition

    def _check_plugins(self) -> None:
        """Before a run is taken up, ask for the plugins it needs: without them its names mean nothing."""
        if not self.resume:
            return
        there = [legal_path(self.out)] if self.out is not None else sorted(RUNS.glob(f"{Path(self.model).stem}-*"))
        for path in there:
            if (path / CONFIG).is_file():
                plugins.check(read_config(path / CONFIG).get("plugins"), str(path / CONFIG))

"""What a user asks to be recorded: WHERE.WHAT[filters], and which neurons, synapses or examples a filter means."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, TypedDict

import torch

from neurosbd.errors import UsageError, nearest

_SPEC = re.compile(r"(?:(?P<where>[^\[\]]+)\.)?(?P<what>[A-Za-z_]\w*)\s*(?:\[(?P<filters>.*)\])?")
_EVERY = re.compile(r"(\d+)\s*(step|batch|batche|epoch)s?")
_LEGAL = ("neurons", "synapses", "examples", "every", "on")
_WRITE = 'write WHERE.WHAT[filters], for example "hidden.v[neurons=random 100, examples=0:4, every=10 batches]"'


@dataclass(frozen=True)
class Selection:
    """Some of a row of things: all, a slice, a list, or so many drawn at random from those that are there.

    >>> Selection.parse("random 2").indices(10, torch.Generator().manual_seed(0))
    (1, 4)
    >>> Selection.parse("2:8:3").indices(10, torch.Generator())
    (2, 5)
    """

    chosen: slice | tuple[int, ...] | None = None
    random: int | None = None

    @classmethod
    def parse(cls, text: str) -> "Selection":
        """'7', '0:100:5', '[1, 5, 9]' or 'random 100'.

        Raises:
            ValueError: if it is none of these.
        """
        text = text.strip()
        if drawn := re.fullmatch(r"random\s+(\d+)", text):
            return cls(random=int(drawn[1]))
        if re.fullmatch(r"\d+", text):
            return cls((int(text),))
        if re.fullmatch(r"\[\s*\d+(\s*,\s*\d+)*\s*\]", text):
            return cls(tuple(int(n) for n in text.strip("[]").split(",")))
        if re.fullmatch(r"(\d*):(\d*)(:[1-9]\d*)?", text):
            return cls(slice(*(int(n) if n else None for n in text.split(":"))))
        raise ValueError(f"'{text}' selects nothing; legal: 7, 0:100, 0:100:5, [1, 5, 9], random 100")

    def at_most(self, count: int) -> "Selection":
        """The same, with no more drawn than there are."""
        return self if self.random is None or self.random <= count else Selection()

    def indices(
        self, count: int, generator: torch.Generator, there: Sequence[int] | None = None
    ) -> tuple[int, ...] | None:
        """What is selected of 0..count-1; None: all.

        Args:
            count: of the row.
            generator: that draws.
            there: those that are drawn from; None: all.
        Raises:
            ValueError: if that is nothing, or not there.
        """
        if self.random is not None:
            legal = range(count) if there is None else there
            if not 1 <= self.random <= len(legal):
                raise ValueError(f"random {self.random} of {len(legal)}; legal is 1 to {len(legal)}")
            drawn = torch.randperm(len(legal), generator=generator)[: self.random].tolist()
            return tuple(sorted(legal[each] for each in drawn))
        if self.chosen is None:
            return None
        found = tuple(range(*self.chosen.indices(count))) if isinstance(self.chosen, slice) else self.chosen
        if not found:
            raise ValueError(f"selects nothing of {count}; legal are 0 to {count - 1}")
        if max(found) >= count or len(set(found)) < len(found):
            raise ValueError(f"selects {list(found)[:8]} of {count}; legal are 0 to {count - 1}, each once")
        return None if found == tuple(range(count)) else found


class Options(TypedDict, total=False):
    """What the filters in brackets say."""

    items: Selection
    examples: Selection
    every: dict[str, int]
    on: Literal["train", "test"]


@dataclass(frozen=True)
class Request:
    """One request: what, where, of what, when.

    spec: as it was written.
    every: unit -> stride, as far as it was given.
    """

    spec: str
    what: str
    where: str = ""
    items: Selection = Selection()
    examples: Selection = Selection()
    every: dict[str, int] = field(default_factory=dict)
    on: Literal["train", "test"] = "train"

    @classmethod
    def parse(cls, spec: str) -> "Request":
        """WHERE.WHAT[key=value, ...].

        Raises:
            UsageError: naming the part that is wrong and what is legal.

        >>> Request.parse("hidden.v[neurons=0:4, every=2 steps and 5 batches]").every
        {'step': 2, 'batch': 5}
        """
        match = _SPEC.fullmatch(spec.strip())
        if match is None:
            raise UsageError(f"recording {spec}: {_WRITE}")
        options: Options = {}
        for text in _split(match["filters"] or ""):
            key, equals, value = (part.strip() for part in text.partition("="))
            if not equals or key not in _LEGAL:
                raise UsageError(f"recording {spec}: there is no filter '{key}'{nearest(key, _LEGAL)}; {_WRITE}")
            try:
                options |= _option(key, value)
            except ValueError as problem:
                raise UsageError(f"recording {spec}: {key}: {problem}") from None
        return cls(spec, match["what"], (match["where"] or "").strip(), **options)


def _split(filters: str) -> list[str]:
    """At the commas that are not inside brackets."""
    return [part for part in re.split(r",(?![^\[]*\])", filters) if part.strip()]


def _option(key: str, value: str) -> Options:
    if key in ("neurons", "synapses"):
        return {"items": Selection.parse(value)}
    if key == "examples":
        return {"examples": Selection.parse(value)}
    if key == "on":
        if value not in ("train", "test"):
            raise ValueError(f"there is no '{value}'; legal: train, test")
        return {"on": value}
    every = {}
    for part in value.split(" and "):
        match = _EVERY.fullmatch(part.strip())
        if match is None or int(match[1]) < 1:
            raise ValueError(f"'{part.strip()}' is no interval; legal: 10 steps, 5 batches, 2 epochs, joined by 'and'")
        every[match[2].removesuffix("e") if match[2] == "batche" else match[2]] = int(match[1])
    return {"every": every}

"""A file that was read becomes a record, or a line for everything that is wrong with it."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from neurosbd.errors import UsageError, nearest
from neurosbd.files.parsing import Json, brief
from neurosbd.schema.plugins import nearest_part
from neurosbd.schema.schema import DRAWN, NUMBER, NUMBERS, Constants, Record, records, tupled

R = TypeVar("R", bound=Record)
_RENAMED = {  # words that files of older versions may say
    "own": "custom", "all": "all_to_all", "nearest": "nn_symm",
}  # fmt: skip


def validate(record: type[R], raw: Mapping[str, object], source: str, origin: Mapping[str, str] | None = None) -> R:
    """A record from parsed TOML or JSON.

    Args:
        record: what it must be.
        raw: the parsed file.
        source: the file, for messages.
        origin: dotted key -> where its value came from, if not from the file.

    Raises:
        UsageError: with every problem at once, a line each: source, key, what is wrong, what is legal.
    """
    try:
        return record.model_validate(tupled(raw))
    except ValidationError as problems:
        errors = _causes(problems.errors(include_url=False))
        wheres = [brief(_written(error["loc"], raw)) for error in errors[:20]]
        lines = [
            f"{_origin(where, origin or {}, source)}: {where}: {_explain(error, record)}"
            for where, error in zip(wheres, errors, strict=False)
        ]
        more = [f"... and {len(errors) - 20} more"] if len(errors) > 20 else []
        raise UsageError("\n".join(lines + more)) from None


def _causes(errors: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Without what follows from others: a list that has lost an illegal item counts as one that is too short."""
    places = [error["loc"] for error in errors]

    def follows(loc: tuple[object, ...]) -> bool:
        return any(len(place) > len(loc) and place[: len(loc)] == loc for place in places)

    return [error for error in errors if error["type"] != "too_short" or not follows(error["loc"])]


def _origin(where: str, origin: Mapping[str, str], source: str) -> str:
    """Where a value came from, or all that is in it, or the list that it is in."""
    within = {source for key, source in origin.items() if key.startswith(f"{where}.")}
    if where not in origin and len(within) == 1:
        return within.pop()
    while where not in origin and "." in where:
        where = where.rpartition(".")[0]
    return origin.get(where, source)


def _explain(error: ErrorDetails, record: type[Record]) -> str:
    kind, context, given = error["type"], error.get("ctx", {}), error["input"]
    if kind == "extra_forbidden":
        *path, key = error["loc"]
        for model in _models_at(record, path):
            if issubclass(model, Constants) and str(key) in model.moved:
                return f"is {model.moved[str(key)]} now"
        return f"unknown key{nearest(str(key), _keys(record, path))}"
    if kind in ("union_tag_invalid", "literal_error"):
        expected = context.get("expected_tags") or context["expected"].replace(" or ", ", ")
        legal = [word.strip(" '") for word in expected.split(",")]
        given = str(context.get("tag", given))
        if given in _RENAMED and _RENAMED[given] in legal:
            return f"'{given}' is called '{_RENAMED[given]}' now"
        hint = nearest_part(given, legal) if kind == "union_tag_invalid" else nearest(given, legal)
        return f"there is no '{brief(given)}'{hint}"
    if kind == "union_tag_not_found" and "_meant" in context.get("discriminator", ""):
        return f"must be a number, numbers in a list, or a distribution, got {brief(repr(given))}"
    if kind == "union_tag_not_found":
        return f"must be a name or a table with a kind, got {brief(repr(given))}"
    if kind == "model_type":
        return f"must be a table of keys, got {brief(repr(given))}"
    if kind == "missing":
        return "is missing; it must be given"
    if kind == "value_error":
        return str(context["error"])
    if kind == "tuple_type":
        return f"must be a list, in brackets, got {brief(repr(given))}"
    if kind == "too_short":
        return f"must have {context['min_length']} or more values, got {list(given)}"
    return f"{error['msg'][0].lower()}{error['msg'][1:]}, got {brief(repr(given))}"


def _written(loc: tuple[Any, ...], raw: Json) -> str:
    """Dotted key as the user wrote it: without the tags that pydantic adds for unions."""
    parts: list[str] = []
    for i, step in enumerate(loc):
        if step in (NUMBER, NUMBERS, DRAWN):
            continue
        last = i == len(loc) - 1
        known = (isinstance(raw, Mapping) and step in raw) or (isinstance(step, int) and isinstance(raw, list | tuple))
        if known:
            raw = raw[step]
        elif not last or raw == step or (isinstance(raw, Mapping) and raw.get("kind") == step):
            continue
        parts.append(str(step))
    return ".".join(parts) or "(top level)"


def _keys(record: type[Record], loc: Sequence[int | str]) -> list[str]:
    """Legal keys of the record at a location."""
    return [key for model in _models_at(record, loc) for key in model.model_fields]


def _models_at(record: type[Record], loc: Sequence[int | str]) -> list[type[BaseModel]]:
    models: list[type[BaseModel]] = [record]
    for step in loc:
        tagged = [m for m in models if m.__name__ == step]
        fields = [m.model_fields[step] for m in models if step in m.model_fields]
        if tagged:
            models = tagged
        elif fields:
            models = records(fields[0].annotation, fields[0].metadata)
    return models

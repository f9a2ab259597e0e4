"""Turns the tables of the engine into schemas of configuration files. Layer 0.

An entry of a table (a neuron, a rule, an optimizer) is a dataclass or a function; its parameters,
types and defaults are the schema. So a new entry can be used in a TOML file without further work.
Values are checked strictly: no text for numbers, no unknown keys, no NaN or infinity.
"""

import dataclasses
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, create_model, model_validator

from neurosbd.errors import UsageError, nearest

Table = Mapping[str, Callable[..., Any]]


class Record(BaseModel):
    """A table of a configuration file: strict, frozen, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Entry(Record):
    """One entry of a table with its parameters: {kind = "name", ...}."""

    make: ClassVar[Callable[..., Any]]
    common: ClassVar[frozenset[str]] = frozenset()

    def made(self) -> Any:
        """The object this entry describes."""
        skip = {"kind", *self.common}
        values = {name: getattr(self, name) for name in type(self).model_fields if name not in skip}
        return type(self).make(**{k: v.made() if isinstance(v, Entry) else v for k, v in values.items()})

    @model_validator(mode="after")
    def _legal(self) -> "Entry":
        self.made()  # the constants check themselves
        return self


def choice(table: Table, nested: Mapping[Any, Table] | None = None, **common: Any) -> Any:
    """The pydantic type of one entry of a table.

    Args:
        table: name -> dataclass or function.
        nested: for parameters that are entries themselves: annotation -> table.
        common: further fields of every entry that are not parameters, as (type, default).
    """
    models = [_entry(name, make, nested or {}, common) for name, make in table.items()]
    union = Annotated[Union[tuple(models)], Field(discriminator="kind")] if len(models) > 1 else models[0]  # noqa: UP007
    return Annotated[union, BeforeValidator(_spelled_out)]


def _spelled_out(value: Any) -> Any:
    """'relu' means {kind = 'relu'}."""
    return {"kind": value} if isinstance(value, str) else value


def _entry(name: str, make: Callable[..., Any], nested: Mapping[Any, Table], common: Mapping[str, Any]) -> type[Entry]:
    hints = get_type_hints(make.__init__ if isinstance(make, type) else make)
    fields: dict[str, Any] = {"kind": (Literal[name], name), **common}
    for parameter in inspect.signature(make).parameters.values():
        fields[parameter.name] = _field(hints[parameter.name], _default(make, parameter), nested)
    model = create_model(name, __base__=Entry, **fields)
    model.make = make
    model.common = frozenset(common)
    return model


def _default(make: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """Default of a parameter; `...` if it must be given."""
    if dataclasses.is_dataclass(make):
        declared = next(f for f in dataclasses.fields(make) if f.name == parameter.name)
        if declared.default_factory is not dataclasses.MISSING:
            return declared.default_factory()
    return ... if parameter.default is inspect.Parameter.empty else parameter.default


def _field(hint: Any, default: Any, nested: Mapping[Any, Table]) -> tuple[Any, Any]:
    optional = get_origin(hint) in (Union, types.UnionType) and type(None) in get_args(hint)
    inner = next(a for a in get_args(hint) if a is not type(None)) if optional else hint
    if inner not in nested:
        return hint, default
    table = nested[inner]
    typed = choice(table)
    if default is not None and default is not ...:
        kind = next(name for name, make in table.items() if make is type(default))
        spelled = {"kind": kind, **dataclasses.asdict(default)}
        default = Field(default_factory=lambda: spelled, validate_default=True)
    return (typed | None if optional else typed), default


def tupled(value: Any) -> Any:
    """Lists of a parsed file as tuples, all the way down: what strict frozen records want."""
    if isinstance(value, dict):
        return {key: tupled(item) for key, item in value.items()}
    return tuple(tupled(item) for item in value) if isinstance(value, list | tuple) else value


def validate(record: type[Record], raw: Mapping[str, Any], source: str, origin: Mapping[str, str] | None = None) -> Any:
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
        errors = problems.errors(include_url=False)
        wheres = [_written(error["loc"], raw) for error in errors[:20]]
        lines = [
            f"{(origin or {}).get(where, source)}: {where}: {_explain(error, record)}"
            for where, error in zip(wheres, errors, strict=False)
        ]
        more = [f"... and {len(errors) - 20} more"] if len(errors) > 20 else []
        raise UsageError("\n".join(lines + more)) from None


def _explain(error: Any, record: type[Record]) -> str:
    kind, context, given = error["type"], error.get("ctx", {}), error["input"]
    if kind == "extra_forbidden":
        return f"unknown key{nearest(str(error['loc'][-1]), _keys(record, error['loc'][:-1]))}"
    if kind in ("union_tag_invalid", "literal_error"):
        expected = context.get("expected_tags") or context["expected"].replace(" or ", ", ")
        legal = [word.strip(" '") for word in expected.split(",")]
        given = context.get("tag", given)
        return f"there is no '{given}'{nearest(str(given), legal)}"
    if kind == "union_tag_not_found":
        return f"must be a name or a table with a kind, got {given!r}"
    if kind == "missing":
        return "is missing; it must be given"
    if kind == "value_error":
        return str(context["error"])
    return f"{error['msg'][0].lower()}{error['msg'][1:]}, got {given!r}"


def _written(loc: tuple[Any, ...], raw: Any) -> str:
    """Dotted key as the user wrote it: without the tags that pydantic adds for unions."""
    parts: list[str] = []
    for i, step in enumerate(loc):
        last = i == len(loc) - 1
        known = (isinstance(raw, Mapping) and step in raw) or (isinstance(step, int) and isinstance(raw, list | tuple))
        if known:
            raw = raw[step]
        elif not last or raw == step or (isinstance(raw, Mapping) and raw.get("kind") == step):
            continue
        parts.append(str(step))
    return ".".join(parts) or "(top level)"


def _keys(record: Any, loc: tuple[Any, ...]) -> list[str]:
    """Legal keys of the record at a location."""
    for step in loc:
        models = [m for m in _models(record)]
        tagged = [m for m in models if m.__name__ == step]
        record = tagged[0] if tagged else next((m.model_fields[step].annotation for m in models if step in m.model_fields), record)
    return [key for model in _models(record) for key in model.model_fields]


def _models(annotation: Any) -> list[type[BaseModel]]:
    """All record types inside an annotation."""
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in get_args(annotation) for model in _models(part)]

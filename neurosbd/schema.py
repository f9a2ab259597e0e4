"""Turns the tables of the engine into schemas of configuration files.

An entry of a table (a neuron, a rule, an optimizer) is a dataclass or a function; its parameters,
types and defaults are the schema. So a new entry can be used in a TOML file without further work.
Values are checked strictly: no text for numbers, no unknown keys, no NaN or infinity.
"""

import dataclasses
import inspect
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    Tag,
    TypeAdapter,
    ValidationError,
    create_model,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema
from torch import Tensor

from neurosbd.errors import UsageError, nearest
from neurosbd.parsing import brief
from neurosbd.plugins import find

Table = Mapping[str, Callable[..., Any]]


class Record(BaseModel):
    """A table of a configuration file: strict, frozen, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Entry(Record):
    """One entry of a table with its parameters: {kind = "name", ...}.

    Subclasses may add fields that are not parameters of the entry.
    """

    make: ClassVar[Callable[..., Any]]
    parameters: ClassVar[frozenset[str]] = frozenset()

    kind: str

    def build(self) -> Any:
        """The object this entry describes."""
        values = {name: getattr(self, name) for name in type(self).parameters}
        return type(self).make(**{key: _build(value) for key, value in values.items()})

    @model_validator(mode="after")
    def _legal(self) -> "Entry":
        self.build()  # the constants check themselves
        return self


def _build(value: Any) -> Any:
    """What an entry, or a tuple of entries, describes; anything else is itself."""
    if isinstance(value, tuple):
        return tuple(_build(item) for item in value)
    return value.build() if isinstance(value, Entry) else value


class OneOf:
    """Marks a field as one entry of a table: `neuron: Annotated[Entry, OneOf(NEURONS)]`.

    The table is read whenever a value is checked, so an item that is registered later is legal from then on.

    Args:
        table: name -> dataclass or function.
        nested: for parameters that are entries themselves: annotation -> table.
        base: record with further fields that are not parameters.
    """

    def __init__(self, table: Table, nested: Mapping[Any, Table] | None = None, base: type[Entry] = Entry) -> None:
        self._table, self._nested, self._base = table, nested or {}, base
        self._read: dict[str, Callable[..., Any]] = {}  # the table when the models were made
        self._models: list[type[Entry]] = []
        self._adapter: TypeAdapter[Entry] | None = None

    @property
    def models(self) -> list[type[Entry]]:
        """The record of every item that the table has now."""
        if self._read != self._table:
            self._read, self._adapter = dict(self._table), None
            self._models = [_entry(name, make, self._nested, self._base) for name, make in self._read.items()]
        return self._models

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._checked)

    def _checked(self, value: Any) -> Entry:
        """The entry that a value spells out; 'relu' means {kind = 'relu'}."""
        value = {"kind": value} if isinstance(value, str) else value
        if isinstance(value, Mapping):
            find(self._table, value.get("kind"))
        models = self.models
        if self._adapter is None:
            union: Any = Annotated[Union[tuple(models)], Field(discriminator="kind")]  # noqa: UP007
            self._adapter = TypeAdapter(union)
        return self._adapter.validate_python(value)


def _entry(name: str, make: Callable[..., Any], nested: Mapping[Any, Table], base: type[Entry]) -> type[Entry]:
    hints = get_type_hints(make.__init__ if isinstance(make, type) else make)
    fields: dict[str, Any] = {"kind": (Literal[name], name)}
    for parameter in inspect.signature(make).parameters.values():
        fields[parameter.name] = _field(hints[parameter.name], _default(make, parameter), nested)
    model = create_model(name, __base__=base, **fields)
    model.make = make
    model.parameters = frozenset(inspect.signature(make).parameters)
    return model


def _default(make: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """Default of a parameter; `...` if it must be given."""
    if dataclasses.is_dataclass(make):
        declared = next(f for f in dataclasses.fields(make) if f.name == parameter.name)
        if declared.default_factory is not dataclasses.MISSING:
            return declared.default_factory()
    return ... if parameter.default is inspect.Parameter.empty else parameter.default


def _field(hint: Any, default: Any, nested: Mapping[Any, Table]) -> tuple[Any, Any]:
    """Type and default of a parameter; what is nested becomes an entry, a tensor a list of numbers."""
    if get_origin(hint) is tuple and get_args(hint)[0] in nested:
        return tuple[Annotated[Entry, OneOf(nested[get_args(hint)[0]])], ...], default
    parts = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    tables = {part: nested[part] for part in parts if part in nested}
    if not tables:
        return hint, default
    typed = [Annotated[Entry, OneOf(tables[p])] if p in tables else _LISTED.get(p, p) for p in parts]
    kinds = [name for table in tables.values() for name, make in table.items() if make is type(default)]
    if Tensor in parts:
        return _constant(tables), default
    if kinds:
        spelled = {"kind": kinds[0], **dataclasses.asdict(default)}
        default = Field(default_factory=lambda: spelled, validate_default=True)
    return Union[tuple(typed)], default  # noqa: UP007


_LISTED: dict[Any, Any] = {Tensor: tuple[float, ...]}
_NUMBER, _NUMBERS, _DRAWN = "a number", "numbers", "drawn"  # tags of what a constant can be; no user types them


def _constant(tables: Mapping[Any, Table]) -> Any:
    """A number, a list of them, or an entry of a table: what is wrong is said of the one that was meant."""
    drawn = [Annotated[Annotated[Entry, OneOf(table)], Tag(_DRAWN)] for table in tables.values()]
    plain = [Annotated[float, Tag(_NUMBER)], Annotated[tuple[float, ...], Tag(_NUMBERS)]]
    return Annotated[Union[tuple(plain + drawn)], Discriminator(_meant)]  # noqa: UP007


def _meant(value: Any) -> str | None:
    """Which of them a value means to be; text that is a number means one, in quotes."""
    if isinstance(value, list | tuple):
        return _NUMBERS
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return _NUMBER
    if isinstance(value, str):
        with suppress(ValueError):
            float(value)
            return _NUMBER
    return _DRAWN if isinstance(value, str | Mapping | Entry) else None


def tupled(value: Any) -> Any:
    """Lists of a parsed file as tuples, all the way down: what strict frozen records want."""
    if isinstance(value, dict):
        return {key: tupled(item) for key, item in value.items()}
    return tuple(tupled(item) for item in value) if isinstance(value, list | tuple) else value


def entries(value: Any) -> Iterator[Entry]:
    """Every entry of a table in a record, and in those within it."""
    if isinstance(value, Entry):
        yield value
    if isinstance(value, BaseModel):
        value = [getattr(value, name) for name in type(value).model_fields]
    if isinstance(value, Mapping):
        value = list(value.values())
    for item in value if isinstance(value, list | tuple) else ():
        yield from entries(item)


def check_tables(record: type[BaseModel]) -> None:
    """Read every table that a record can name an entry of.

    Raises:
        PydanticUserError: if an item has a constant of a type that no file can hold.
    """
    seen: set[type[BaseModel]] = set()
    waiting = [record]
    while waiting:
        fields = waiting.pop().model_fields.values()
        new = {model for field in fields for model in _models(field.annotation, field.metadata)} - seen
        seen |= new
        waiting += new


R = TypeVar("R", bound=Record)


def validate(record: type[R], raw: Mapping[str, Any], source: str, origin: Mapping[str, str] | None = None) -> R:
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


def _causes(errors: Sequence[Any]) -> list[Any]:
    """Without what follows from others: a list that has lost an illegal item counts as one that is too short."""
    places = [error["loc"] for error in errors]

    def follows(loc: tuple[Any, ...]) -> bool:
        return any(len(place) > len(loc) and place[: len(loc)] == loc for place in places)

    return [error for error in errors if error["type"] != "too_short" or not follows(error["loc"])]


def _origin(where: str, origin: Mapping[str, str], source: str) -> str:
    """Where a value came from, or the list that it is in."""
    while where not in origin and "." in where:
        where = where.rpartition(".")[0]
    return origin.get(where, source)


def _explain(error: Any, record: type[Record]) -> str:
    kind, context, given = error["type"], error.get("ctx", {}), error["input"]
    if kind == "extra_forbidden":
        return f"unknown key{nearest(str(error['loc'][-1]), _keys(record, error['loc'][:-1]))}"
    if kind in ("union_tag_invalid", "literal_error"):
        expected = context.get("expected_tags") or context["expected"].replace(" or ", ", ")
        legal = [word.strip(" '") for word in expected.split(",")]
        given = str(context.get("tag", given))
        return f"there is no '{brief(given)}'{nearest(given, legal)}"
    if kind == "union_tag_not_found" and "_meant" in context.get("discriminator", ""):
        return f"must be a number, numbers in a list, or a distribution, got {brief(repr(given))}"
    if kind == "union_tag_not_found":
        return f"must be a name or a table with a kind, got {brief(repr(given))}"
    if kind == "missing":
        return "is missing; it must be given"
    if kind == "value_error":
        return str(context["error"])
    if kind == "tuple_type":
        return f"must be a list, in brackets, got {brief(repr(given))}"
    if kind == "too_short":
        return f"must have {context['min_length']} or more values, got {list(given)}"
    return f"{error['msg'][0].lower()}{error['msg'][1:]}, got {brief(repr(given))}"


def _written(loc: tuple[Any, ...], raw: Any) -> str:
    """Dotted key as the user wrote it: without the tags that pydantic adds for unions."""
    parts: list[str] = []
    for i, step in enumerate(loc):
        if step in (_NUMBER, _NUMBERS, _DRAWN):
            continue
        last = i == len(loc) - 1
        known = (isinstance(raw, Mapping) and step in raw) or (isinstance(step, int) and isinstance(raw, list | tuple))
        if known:
            raw = raw[step]
        elif not last or raw == step or (isinstance(raw, Mapping) and raw.get("kind") == step):
            continue
        parts.append(str(step))
    return ".".join(parts) or "(top level)"


def _keys(record: type[Record], loc: tuple[Any, ...]) -> list[str]:
    """Legal keys of the record at a location."""
    models: list[type[BaseModel]] = [record]
    for step in loc:
        tagged = [m for m in models if m.__name__ == step]
        fields = [m.model_fields[step] for m in models if step in m.model_fields]
        if tagged:
            models = tagged
        elif fields:
            models = _models(fields[0].annotation, fields[0].metadata)
    return [key for model in models for key in model.model_fields]


def _models(annotation: Any, metadata: Sequence[Any] = ()) -> list[type[BaseModel]]:
    """All record types inside an annotation."""
    for mark in metadata:
        if isinstance(mark, OneOf):
            return list(mark.models)
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        return _models(inner, marks)
    return [model for part in get_args(annotation) for model in _models(part)]

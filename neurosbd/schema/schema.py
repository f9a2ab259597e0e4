"""Turns the tables of the engine into schemas of configuration files.

An entry of a table (a neuron, a rule, an optimizer) is a dataclass or a function; its parameters,
types and defaults are the schema. So a new entry can be used in a TOML file without further work.
Values are checked strictly: no text for numbers, no unknown keys, no NaN or infinity.
"""

import dataclasses
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    Tag,
    TypeAdapter,
    create_model,
    model_validator,
)
from pydantic_core import CoreSchema, core_schema
from torch import Tensor

from neurosbd.schema.kinds import Hint, Mark, declared, violation
from neurosbd.schema.plugins import find

Table = Mapping[str, Callable[..., Any]]
C = TypeVar("C", bound="Constants")


class Record(BaseModel):
    """A table of a configuration file: strict, frozen, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Constants(Record):
    """What something is made of: its parameters.

    Subclasses may add fields that are not parameters; `moved` names keys that it once had, and what is there now.
    """

    make: ClassVar[Callable[..., object]]
    parameters: ClassVar[frozenset[str]] = frozenset()
    moved: ClassVar[Mapping[str, str]] = {}

    def build(self) -> Any:
        """The object that is described."""
        values = {name: getattr(self, name) for name in type(self).parameters}
        return type(self).make(**{key: _build(value) for key, value in values.items()})

    @model_validator(mode="after")
    def _legal(self) -> "Constants":
        self.build()  # the constants check themselves
        return self


class Entry(Constants):
    """One entry of a table with its parameters: {kind = "name", ...}."""

    kind: str


def _build(value: object) -> object:
    """What an entry, or a tuple of entries, describes; anything else is itself."""
    if isinstance(value, tuple):
        return tuple(_build(item) for item in value)
    return value.build() if isinstance(value, Constants) else value


class OneOf:
    """Marks a field as one entry of a table: `neuron: Annotated[Entry, OneOf(NEURONS)]`.

    The table is read whenever a value is checked, so an item that is registered later is legal from then on.

    Args:
        table: name -> dataclass or function.
        nested: for parameters that are entries themselves: annotation -> table.
        base: record with further fields that are not parameters.
        otherwise: the entry that a table without a kind changes, spelled out; none: a kind must be given.
    """

    def __init__(
        self, table: Table, nested: Mapping[Hint, Table] | None = None, base: type[Entry] = Entry,
        otherwise: Mapping[str, object] | None = None,
    ) -> None:  # fmt: skip
        self._table, self._nested, self._base = table, nested or {}, base
        self._otherwise = otherwise or {}
        self._read: Table = {}  # the table when the models were made
        self._models: list[type[Entry]] = []
        self._adapter: TypeAdapter[Entry] | None = None

    @property
    def key(self) -> tuple[int, type[Entry]]:
        """The same for two that take entries of one table with the same further fields."""
        return id(self._table), self._base

    @property
    def models(self) -> list[type[Entry]]:
        """The record of every item that the table has now."""
        if self._read != self._table:
            self._read, self._adapter = dict(self._table), None
            self._models = [_entry(name, make, self._nested, self._base) for name, make in self._read.items()]
        return self._models

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self.checked)

    def checked(self, value: object) -> Entry:
        """The entry that a value spells out."""
        value = self._spelled_out(value)
        if isinstance(value, Mapping):
            find(self._table, value.get("kind"))
        models = self.models
        if self._adapter is None:
            union: Hint = Annotated[Union[tuple(models)], Field(discriminator="kind")]  # noqa: UP007
            self._adapter = TypeAdapter(union)
        return self._adapter.validate_python(value)

    def _spelled_out(self, value: object) -> object:
        """'relu' means {kind = 'relu'}; a table without a kind changes the default."""
        if isinstance(value, str):
            return {"kind": value}
        if isinstance(value, Mapping) and "kind" not in value and self._otherwise:
            return _changed(self._otherwise, value)
        return value


def _changed(old: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    """Deep-merged; a table with a kind replaces what was there."""
    return {**old} | {key: _merged(old.get(key), value) for key, value in changes.items()}


def _merged(old: object, new: object) -> object:
    if isinstance(old, Mapping) and isinstance(new, Mapping) and "kind" not in new:
        return _changed(old, new)
    return new


def parameters(make: Callable[..., object]) -> dict[str, tuple[Hint, object]]:
    """Type and default of every parameter of an item, `...` for one that must be given.

    Of a function with `**parts: Unpack[TypedDict]` they are the keys of that, and the defaults are what it makes.

    >>> from neurosbd.rules import RULES
    >>> parameters(RULES["sbd"])["readout"]
    (typing.Literal['gradient', 'rule', 'score'], 'gradient')
    """
    hints = get_type_hints(make.__init__ if isinstance(make, type) else make, include_extras=True)
    found: dict[str, tuple[Hint, object]] = {}
    for parameter in inspect.signature(make).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            own = make()
            parts = get_type_hints(get_args(hints[parameter.name])[0], include_extras=True)
            found |= {name: (hint, getattr(own, name)) for name, hint in parts.items()}
        else:
            found[parameter.name] = (hints[parameter.name], _default(make, parameter))
    return found


def _entry(name: str, make: Callable[..., object], nested: Mapping[Hint, Table], base: type[Entry]) -> type[Entry]:
    return _model(name, make, nested, base, {"kind": (Literal[name], name)})


def _model(
    name: str, make: Callable[..., object], nested: Mapping[Hint, Table], base: type[C], fields: dict[str, Hint]
) -> type[C]:
    """The record of the parameters of an item, and of further fields."""
    legal = parameters(make)
    fields |= {key: _field(hint, default, nested) for key, (hint, default) in legal.items()}
    model = create_model(name, __base__=base, **fields)
    model.make = make
    model.parameters = frozenset(legal)
    return model


def _default(make: Callable[..., object], parameter: inspect.Parameter) -> object:
    """Default of a parameter; `...` if it must be given."""
    if dataclasses.is_dataclass(make):
        declared = next(f for f in dataclasses.fields(make) if f.name == parameter.name)
        if declared.default_factory is not dataclasses.MISSING:
            return declared.default_factory()
    return ... if parameter.default is inspect.Parameter.empty else parameter.default


def _field(hint: object, default: object, nested: Mapping[Hint, Table]) -> tuple[Hint, object]:
    """Type and default of a parameter; what is nested becomes an entry, a tensor a list of numbers
    where constants are drawn, and is left to Python elsewhere."""
    if get_origin(hint) is tuple and get_args(hint)[0] in nested:
        return tuple[Annotated[Entry, OneOf(nested[get_args(hint)[0]])], ...], default
    parts, marks = declared(hint)
    tables = {part: nested[part] for part in parts if part in nested}
    if tables and marks:  # they hold for what an entry describes, not for the entry
        inner, default = _field(Union[parts], default, nested)  # noqa: UP007
        legal, read = AfterValidator(partial(_legal, marks=marks)), BeforeValidator(partial(_read, marks=marks))
        return Annotated[inner, legal, read], default
    if Tensor in parts:
        if tables:
            return _or_none(_constant(tables)) if type(None) in parts else _constant(tables), default
        return Union[tuple(part for part in parts if part is not Tensor)], default  # noqa: UP007
    spelled = spell(default, nested)
    if len(parts) == 1 and dataclasses.is_dataclass(hint) and not tables:
        assert isinstance(spelled, Mapping)  # a dataclass, constant by constant
        return _group(hint, nested, spelled), Field(default_factory=lambda: spelled, validate_default=True)
    if not tables:
        return hint, default
    otherwise = spelled if isinstance(spelled, Mapping) and "kind" in spelled else None
    typed = [
        Annotated[Entry, OneOf(tables[p], nested, otherwise=otherwise)] if p in tables else _LISTED.get(p, p)
        for p in parts
    ]
    if otherwise is not None:
        default = Field(default_factory=lambda: otherwise, validate_default=True)
    union: Hint = Union[tuple(typed)]  # noqa: UP007
    return _or_none(union) if type(None) in parts else union, default


def _or_none(hint: Hint) -> Hint:
    return Annotated[hint | None, BeforeValidator(_unless_none)]


def _unless_none(value: object) -> object:
    """'none' is no entry: how a file, which has no null, says that a part is left out."""
    return None if value == "none" else value


def _legal(value: object, marks: Sequence[Mark]) -> object:
    """A value whose object the marks admit."""
    for mark in marks:
        if problem := violation(_build(value), mark):
            raise ValueError(f"must be {problem}")
    return value


def _read(value: object, marks: Sequence[Mark]) -> object:
    """What a value means that is written in another way, such as a text with a unit."""
    for mark in marks:
        value = mark.read(value)
    return value


def _group(hint: Hint, nested: Mapping[Hint, Table], spelled: Mapping[str, object]) -> Hint:
    """Constants that belong together, {start = 0.9, end = 0.99}: a number is a schedule that stays where it starts."""

    def completed(value: object) -> object:
        if isinstance(value, int | float) and not isinstance(value, bool) and "start" in spelled:
            return {"start": value}
        return _changed(spelled, value) if isinstance(value, Mapping) else value

    model = _model(hint.__name__, hint, nested, Constants, {})
    return Annotated[model, BeforeValidator(completed)]


def spell(value: object, nested: Mapping[Hint, Table]) -> object:
    """How a file says what an object is: items of tables with their kind, constants by name."""
    if isinstance(value, tuple):
        return tuple(spell(item, nested) for item in value)
    if not dataclasses.is_dataclass(value):
        return value
    kinds = [name for table in nested.values() for name, make in table.items() if make is type(value)]
    constants = {
        field.name: spell(getattr(value, field.name), nested) for field in dataclasses.fields(value) if field.init
    }
    return {**({"kind": kinds[0]} if kinds else {}), **constants}


_LISTED: dict[Hint, Hint] = {Tensor: tuple[float, ...]}
NUMBER, NUMBERS, DRAWN = "a number", "numbers", "drawn"  # tags of what a constant can be; no user types them


def _constant(tables: Mapping[Hint, Table]) -> Hint:
    """A number, a list of them, or an entry of a table: what is wrong is said of the one that was meant."""
    drawn = [Annotated[Annotated[Entry, OneOf(table)], Tag(DRAWN)] for table in tables.values()]
    plain = [Annotated[float, Tag(NUMBER)], Annotated[tuple[float, ...], Tag(NUMBERS)]]
    return Annotated[Union[tuple(plain + drawn)], Discriminator(_meant)]  # noqa: UP007


def _meant(value: object) -> str | None:
    """Which of them a value means to be; text that is a number means one, in quotes."""
    if isinstance(value, list | tuple):
        return NUMBERS
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return NUMBER
    if isinstance(value, str):
        with suppress(ValueError):
            float(value)
            return NUMBER
    return DRAWN if isinstance(value, str | Mapping | Entry) else None


def tupled(value: object) -> object:
    """Lists of a parsed file as tuples, all the way down: what strict frozen records want."""
    if isinstance(value, dict):
        return {key: tupled(item) for key, item in value.items()}
    return tuple(tupled(item) for item in value) if isinstance(value, list | tuple) else value


def entries(value: object) -> Iterator[Entry]:
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
    """Read every table that a record can name an entry of, once: an entry may have an entry of its own table.

    Raises:
        PydanticUserError: if an item has a constant of a type that no file can hold.
    """
    seen: set[type[BaseModel]] = set()
    known: set[tuple[int, type[Entry]]] = set()
    waiting = [record]
    while waiting:
        fields = waiting.pop().model_fields.values()
        new = {model for field in fields for model in records(field.annotation, field.metadata, known)} - seen
        seen |= new
        waiting += new


def records(
    annotation: object, metadata: Sequence[object] = (), known: set[tuple[int, type[Entry]]] | None = None
) -> list[type[BaseModel]]:
    """All record types inside an annotation, without those of tables that are known already; these become so."""
    for mark in metadata:
        if isinstance(mark, OneOf):
            if known is not None and mark.key in known:
                return []
            known = set() if known is None else known
            known.add(mark.key)
            return list(mark.models)
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is Annotated:
        inner, *marks = get_args(annotation)
        return records(inner, marks, known)
    return [model for part in get_args(annotation) for model in records(part, (), known)]

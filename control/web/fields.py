"""The settings form as drawn from the declarations: each field's control, value, origin and lock. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from msgspec import inspect

from control.store.settings import Stand
from control.web import formdata, words
from mx.filter import Section
from syncd.layers import locked

MODE = "mode"
ROWS_LEAST, ROWS_MOST = 3, 14
"""Lines of a text area that shows a list."""


@dataclass(frozen=True, slots=True)
class Field:
    """One declared field with what is in force for a domain; `text` is what its control shows."""

    section: str
    name: str
    kind: str
    label: str
    description: str
    value: Any
    text: str
    origin: str
    """The layer that decides it: "domain" when it is set here."""
    locked: str
    """The layer that locks it; "" when it is free."""
    below_text: str
    """What would hold if this domain did not set it."""
    choices: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    max_length: int | None = None
    integer: bool = False
    placeholder: str = ""
    dangerous: str = ""

    @property
    def path(self) -> str:
        """Its name in a document: "content.words"."""
        return f"{self.section}.{self.name}"

    @property
    def id(self) -> str:
        """The id of its control."""
        return words.anchor(self.path)

    @property
    def step(self) -> str:
        """The step of a number's control."""
        return "1" if self.integer else "any"

    @property
    def rows(self) -> int:
        """Lines of its text area."""
        return min(ROWS_MOST, max(ROWS_LEAST, self.text.count("\n") + 2))

    @property
    def bounds(self) -> str:
        """Its bounds in words."""
        if self.kind == "number" and self.minimum is not None and self.maximum is not None:
            return f"{self.minimum:g} to {self.maximum:g}."
        if self.kind == "lines" and self.max_length is not None:
            return f"At most {self.max_length}."
        return ""


@dataclass(frozen=True, slots=True)
class Group:
    """One section of the form: a filter or a group of other settings."""

    name: str
    question: str
    fields: tuple[Field, ...]
    mode_field: Field | None = None
    search: str = field(default="")

    @property
    def mode(self) -> str:
        """A filter's mode; "" for what is no filter."""
        return self.mode_field.text if self.mode_field else ""

    @property
    def every(self) -> tuple[Field, ...]:
        """All fields, the mode among them."""
        return (*((self.mode_field,) if self.mode_field else ()), *self.fields)


def groups(declared: Sequence[Section], stand: Stand) -> list[Group]:
    """The whole form of one layer."""
    return [_group(section, stand) for section in declared]


def read(groups: Sequence[Group], typed: Mapping[str, str], resets: Sequence[str]) -> dict[str, Any]:
    """The merge patch that a posted form asks for: what differs from what it showed. Raises FieldError.

    `resets` are the paths that shall be inherited again. A locked field is left alone whatever was posted.
    """
    changes: dict[str, Any] = {}
    free = [each for group in groups for each in group.every if not each.locked]
    for each in free:
        if each.path in resets or (each.path not in typed and each.kind != "bool"):
            continue
        text = typed.get(each.path, "").replace("\r\n", "\n")
        value = formdata.to_value(each.kind, each.path, text, integer=each.integer)
        if value != each.value:
            changes[each.path] = value
    known = {each.path for each in free if each.origin == "domain"}
    return formdata.patch(changes, [path for path in resets if path in known])


def retyped(groups: Sequence[Group], typed: Mapping[str, str]) -> list[Group]:
    """The form as it was posted, so that nothing typed is lost when it cannot be saved."""

    def again(each: Field) -> Field:
        if each.locked or (each.path not in typed and each.kind != "bool"):
            return each
        return replace(each, text=typed.get(each.path, "false"))

    return [_mapped(group, again) for group in groups]


def filled(groups: Sequence[Group], patch: Mapping[str, Mapping[str, Any]]) -> list[Group]:
    """The form with a merge patch filled in; a reset (null) shows what it shows."""

    def again(each: Field) -> Field:
        value = patch.get(each.section, {}).get(each.name)
        return each if value is None else replace(each, text=formdata.to_text(each.kind, value))

    return [_mapped(group, again) for group in groups]


def by_path(errors: Mapping[str, str]) -> dict[str, str]:
    """Errors by the field that shows them: one in a list ("content.words[2]") belongs to the list's control."""
    return {path.partition("[")[0]: f"{_place(path)}{reason}" for path, reason in errors.items()}


def _place(path: str) -> str:
    number = path.partition("[")[2].partition("]")[0]
    return f"line {int(number) + 1}: " if number.isdigit() else ""


def _mapped(group: Group, again: Callable[[Field], Field]) -> Group:
    mode = again(group.mode_field) if group.mode_field else None
    return replace(group, fields=tuple(again(each) for each in group.fields), mode_field=mode)


def _group(section: Section, stand: Stand) -> Group:
    kind = inspect.type_info(section.settings)
    assert isinstance(kind, inspect.StructType)
    made = [_field(section.name, each, stand) for each in kind.fields]
    mode = next((each for each in made if each.name == MODE), None)
    rest = tuple(each for each in made if each.name != MODE)
    searched = [section.name, words.title(section.name), section.question]
    searched += [part for each in rest for part in (each.name, each.label, each.description)]
    return Group(section.name, section.question, rest, mode, " ".join(searched).lower())


def _field(section: str, declared: inspect.Field, stand: Stand) -> Field:
    meta = declared.type if isinstance(declared.type, inspect.Metadata) else inspect.Metadata(declared.type)
    kind, extra, schema = meta.type, meta.extra or {}, meta.extra_json_schema or {}
    control = _kind(kind)
    default = declared.default_factory() if declared.default is msgspec.NODEFAULT else declared.default
    value = _json(stand.resolved.get(section, {}).get(declared.name, default))
    below = _below(stand, section, declared.name, default)
    return Field(
        section=section,
        name=declared.name,
        kind=control,
        label=extra.get("label") or words.words(declared.name),
        description=schema.get("description", ""),
        value=value,
        text=formdata.to_text(control, value),
        origin=stand.origin(section, declared.name),
        locked=stand.locked_by(section, declared.name),
        below_text=words.plain(_json(below)),
        placeholder=extra.get("placeholder", ""),
        dangerous=extra.get("dangerous", ""),
        **_bounds(kind),
    )


def _json(value: Any) -> Any:
    """A value as JSON types: a tuple is a list."""
    return msgspec.json.decode(msgspec.json.encode(value))


def _kind(kind: inspect.Type) -> str:
    """The control of a type: choice, bool, number, lines (a list of texts), text, or json for what has no form."""
    if isinstance(kind, inspect.LiteralType):
        return "choice"
    if isinstance(kind, inspect.BoolType):
        return "bool"
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        return "number"
    if isinstance(kind, inspect.StrType):
        return "text"
    if isinstance(kind, inspect.VarTupleType | inspect.ListType) and _plain(kind.item_type):
        return "lines"
    return "json"


def _plain(kind: inspect.Type) -> bool:
    kind = kind.type if isinstance(kind, inspect.Metadata) else kind
    return isinstance(kind, inspect.StrType) or (
        isinstance(kind, inspect.LiteralType) and all(isinstance(each, str) for each in kind.values)
    )


def _bounds(kind: inspect.Type) -> dict[str, Any]:
    if isinstance(kind, inspect.LiteralType):
        return {"choices": tuple(str(each) for each in kind.values)}
    if isinstance(kind, inspect.IntType | inspect.FloatType):
        return {"minimum": kind.ge, "maximum": kind.le, "integer": isinstance(kind, inspect.IntType)}
    if isinstance(kind, inspect.StrType | inspect.VarTupleType | inspect.ListType):
        return {"max_length": kind.max_length}
    return {}


def _below(stand: Stand, section: str, name: str, default: Any) -> Any:
    """What the layers above give a field."""
    value = default
    held: list[str] = []
    for _, settings, locks in stand.above:
        if name in settings.get(section, {}) and not locked(held, section, name):
            value = settings[section][name]
        held.extend(locks)
    return value

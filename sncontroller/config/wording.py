"""What pydantic found, in the words and the paths of the person who wrote the file.

Owns the way from a pydantic error to a ``Problem``: the path as it stands in the YAML (no union
tags, no indexes that nobody wrote), and a message that says the mend.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

from sncontroller.config.text import Key
from sncontroller.core.model import Config, GroupSpec
from sncontroller.core.scaling import Policy, policy_of

Found = tuple[tuple[Key, ...], str]
"""A path below the validated value, and what is wrong there."""

_NUMBER_BOUNDS = {
    "greater_than": ("gt", "above"),
    "greater_than_equal": ("ge", "at least"),
    "less_than": ("lt", "below"),
    "less_than_equal": ("le", "at most"),
}
_KINDS = {
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_parsing_size": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "string_type": "text",
    "bytes_type": "text",
    "tuple_type": "a list",
    "list_type": "a list",
    "set_type": "a list",
    "dict_type": "a mapping ('key: value')",
    "mapping_type": "a mapping ('key: value')",
    "model_type": "a mapping ('key: value')",
    "model_attributes_type": "a mapping ('key: value')",
    "ip_v4_address": "an IPv4 address such as 10.0.0.10",
    "ip_v6_address": "an IPv6 address such as fd00::10",
    "ip_any_address": "an IP address such as 10.0.0.10",
    "ip_v4_network": "an IPv4 network such as 10.0.0.0/24",
    "ip_v6_network": "an IPv6 network such as fd00::/64",
    "ip_any_network": "an IP network such as 10.0.0.0/24",
    "path_type": "a path",
}
_SPECIAL = {  # a path in the file or in a group -> what must stand there
    "controller": "1 to 63 letters, digits, dots, hyphens or underscores",
    "state_dir": "an absolute path, as /var/lib/sncontroller",
    "switch.onward": "'normal' or the number of a table",
    "match.ports": "a port (80) or a range of ports (8000-8010) within 1-65535",
    "primary.mac": "a hardware address such as 52:54:00:12:34:56",
    "primary.port": "the name of an OVS port, 1 to 15 characters",
    "health.path": "a path that begins with '/' and has no spaces",
    "health.payload": "text, or bytes as in 'hex:0102ff'",
    "health.expect": "text, or bytes as in 'hex:0102ff'",
    "health.target": "an address, perhaps with the node's index: 10.0.0.100+index, fd00::100+index",
    "management.address": "an address and the node's index, as 192.168.9.100+index",
    "reports.url": "a URL such as http://{address}:9100/metrics",
    "scaling.target": "a load such as 0.7, or 'auto'",
}
_SOURCE = "an address in the nodes' subnet that nobody uses"
NAME_RULE = "a group's name is 1 to 32 lower-case letters, digits and hyphens, as in 'web-1'"
_SHAPE_ERRORS = {
    "string_pattern_mismatch",
    "string_too_long",
    "string_too_short",
    "literal_error",
    "enum",
    "bad_hex",
    *_KINDS,
    *_NUMBER_BOUNDS,
}


def found_in(error: ValidationError, model: type[BaseModel], raw: Any) -> tuple[Found, ...]:
    """Every problem in ``error``, one per place."""
    by_path: dict[tuple[Key, ...], list[str]] = {}
    for item in error.errors(include_url=False):
        keys = _written(item["loc"], raw, str(item["type"]))
        place = _Place(model, keys, raw)
        if _is_long_enough(item, place.value):
            continue
        message = _message(item, place)
        told = by_path.setdefault(keys, [])
        if message not in told:
            told.append(message)
    return tuple((keys, _joined(told)) for keys, told in by_path.items())


def _is_long_enough(item: Mapping[str, Any], value: Any) -> bool:
    """Whether a list lacks only elements that are wrong, each of which is a problem of its own."""
    wrong = item["type"] == "too_short" and isinstance(value, list)
    return wrong and len(value) >= int(item["ctx"]["min_length"])


def stray_booleans(model: type[BaseModel], raw: Any) -> Iterator[Found]:
    """A problem for every true or false where no boolean is wanted; pydantic reads them as 1, 0."""
    for keys, value in _leaves(raw, ()):
        if isinstance(value, bool) and bool not in _flat(_annotations_at(model, keys, raw)):
            yield keys, f"must not be {str(value).lower()}"


def unknown_key(key: str, known: Iterable[str], elsewhere: Mapping[str, str] | None = None) -> str:
    """The message for a key that means nothing here, with the nearest one that does."""
    names = sorted(known)
    close = difflib.get_close_matches(key, names, 1, 0.6)
    if close:
        return f"unknown key; did you mean '{close[0]}'?"
    if elsewhere and key in elsewhere:
        return f"unknown key; '{key}' belongs in '{elsewhere[key]}'"
    return f"unknown key; known here: {', '.join(names)}"


@dataclass(frozen=True, slots=True)
class _Place:
    """A path in the raw value of a model."""

    model: type[BaseModel]
    keys: tuple[Key, ...]
    raw: Any

    @property
    def name(self) -> str:
        """The path without the indexes of lists; empty inside a plugin's section."""
        ours = self.model in (Config, GroupSpec)
        return ".".join(key for key in self.keys if isinstance(key, str)) if ours else ""

    @property
    def value(self) -> Any:
        """What stands there; ``None`` for nothing."""
        value = self.raw
        for key in self.keys:
            try:
                value = value[key]
            except (KeyError, IndexError, TypeError):
                return None
        return value

    def fields(self) -> dict[str, FieldInfo]:
        """The keys that mean something beside the last one."""
        models = _models(_annotations_at(self.model, self.keys[:-1], self.raw))
        return {name: field for m in models for name, field in m.model_fields.items()}


def _message(item: Any, place: _Place) -> str:
    kind, context = str(item["type"]), item.get("ctx", {})
    value = place.keys[-1] if "[key]" in item["loc"] else place.value
    match kind:
        case "extra_forbidden":
            sections = _sections(place.model) if len(place.keys) == 1 else {}
            return unknown_key(str(place.keys[-1]), place.fields(), sections)
        case "missing":
            return f"is missing{_purpose(place)}"
        case "invalid_key":
            return "must be text; put quotes around it"
        case "policy":
            return _one_of([policy.value for policy in Policy], value)
        case "literal_error" | "enum" if place.name not in _SPECIAL:
            return _one_of(_options(context), value)
        case "value_error" | "assertion_error":
            text = str(context.get("error", item["msg"]))
            if not text.startswith("non-hexadecimal"):
                what = f": {_SPECIAL.get(place.name, _SOURCE)}"
                return text + (what if text.startswith("is required") else "")
            kind = "bad_hex"
    wanted = _wanted(kind, place, context)
    if wanted is None:
        text = str(item["msg"]).replace("Input should", "must").replace("String", "it")
        return text[:1].lower() + text[1:]
    return f"{'its keys ' if '[key]' in item['loc'] else ''}must be {wanted}{_not(value)}"


def _wanted(kind: str, place: _Place, context: Mapping[str, Any]) -> str | None:
    """What must stand at this place, in words; ``None`` when pydantic's have to do."""
    if place.name in _SPECIAL and kind in _SHAPE_ERRORS:
        return _SPECIAL[place.name]
    if kind in _NUMBER_BOUNDS:
        name, words = _NUMBER_BOUNDS[kind]
        return f"{words} {context[name]:g}"
    match kind:
        case "string_too_long":
            return f"at most {context['max_length']} characters long"
        case "string_too_short":
            return f"at least {context['min_length']} characters long"
        case "too_short":
            return f"a list of at least {context['min_length']}"
        case "string_pattern_mismatch":
            return f"text of the form {context['pattern']}"
    return _KINDS.get(kind)


def _options(context: Mapping[str, Any]) -> list[str]:
    listed = str(context["expected"]).replace(" or ", ", ").split(", ")
    return [option.strip("'") for option in listed]


def _one_of(options: list[str], value: Any) -> str:
    """The message for a word that is none of the known ones, with the nearest of them."""
    listed = " or ".join(filter(None, [", ".join(options[:-1]), options[-1]]))
    close = difflib.get_close_matches(str(value), options, 1, 0.6)
    return f"must be {listed}{_not(value)}" + (f"; did you mean '{close[0]}'?" if close else "")


def _not(value: Any) -> str:
    if value is None:
        return ", not empty"
    if isinstance(value, (list, tuple)) and not value:
        return ", not an empty one"
    if isinstance(value, (Mapping, list, tuple)):
        return f", not a {'mapping' if isinstance(value, Mapping) else 'list'}"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return f", not {text if len(text) <= 60 else text[:57] + '...'}"


def _joined(messages: list[str]) -> str:
    """One message of several about the same value: a union says what each branch wants."""
    if all(text.startswith("must be ") for text in messages):
        wanted, nots = zip(*(_split(text) for text in messages), strict=True)
        return f"must be {' or '.join(dict.fromkeys(wanted))}{nots[0]}"
    return "; ".join(messages)


def _split(message: str) -> tuple[str, str]:
    wanted, comma, rest = message.removeprefix("must be ").partition(", not ")
    return wanted, comma + rest


def _purpose(place: _Place) -> str:
    """The first sentence of what the missing field is for, where its model says so."""
    field = place.fields().get(str(place.keys[-1]))
    if field is None or not field.description:
        return ""
    sentence = " ".join(field.description.replace("``", "").split()).split(". ")[0].rstrip(".")
    return f": {sentence[:1].lower()}{sentence[1:]}"


# Paths ------------------------------------------------------------------------------------------


def _written(loc: tuple[Key, ...], raw: Any, kind: str) -> tuple[Key, ...]:
    """The part of pydantic's path that a person can find in the file."""
    keys: list[Key] = []
    for at, part in enumerate(loc):
        last = at == len(loc) - 1
        if part == "[key]" or (keys == ["scaling"] and at == 1 and part == policy_of(raw)):
            continue
        if isinstance(raw, Mapping) and (part in raw or (last and isinstance(part, str))):
            keys.append(part)
            raw = raw.get(part)
        elif isinstance(raw, (list, tuple)) and isinstance(part, int):
            keys.append(part)
            raw = raw[part] if part < len(raw) else None
    return (*keys, "policy") if kind == "policy" else tuple(keys)


def _leaves(raw: Any, path: tuple[Key, ...]) -> Iterator[tuple[tuple[Key, ...], Any]]:
    if isinstance(raw, Mapping):
        for key, value in raw.items():
            yield from _leaves(value, (*path, key))
    elif isinstance(raw, list):
        for at, value in enumerate(raw):
            yield from _leaves(value, (*path, at))
    else:
        yield path, raw


def _sections(model: type[BaseModel]) -> dict[str, str]:
    """Key -> the section it belongs in, for the keys of the sections directly below the model."""
    return {
        name: section
        for section, field in model.model_fields.items()
        for below in _models([field.annotation])
        for name in below.model_fields
    }


def _annotations_at(model: type[BaseModel], keys: tuple[Key, ...], raw: Any) -> list[Any]:
    """The types that a value at this place may have."""
    annotations: list[Any] = [model]
    for key in keys:
        if isinstance(key, int):
            continue
        fields = (m.model_fields.get(key) for m in _models(annotations))
        annotations = [field.annotation for field in fields if field is not None]
        raw = raw.get(key) if isinstance(raw, Mapping) else None
        if key == "scaling":
            annotations = [m for m in _models(annotations) if _policy(m) == policy_of(raw)]
    return annotations


def _policy(model: type[BaseModel]) -> str:
    """The policy whose section this is."""
    return str(model.model_fields["policy"].default.value)


def _flat(annotations: Iterable[Any]) -> Iterator[Any]:
    """The types that annotations are made of: members of unions, items of lists."""
    for annotation in annotations:
        if get_origin(annotation) is Literal:
            continue
        yield annotation
        yield from _flat(get_args(annotation))


def _models(annotations: Iterable[Any]) -> Iterator[type[BaseModel]]:
    for part in _flat(annotations):
        if isinstance(part, type) and issubclass(part, BaseModel):
            yield part

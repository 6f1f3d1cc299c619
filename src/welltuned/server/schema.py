"""The part of JSON Schema that the operations are described in, and the check of a value against it."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from welltuned.errors import InvalidType, InvalidValue
from welltuned.evaluation import DEEPEST
from welltuned.storage.records import clean

Schema = Mapping[str, Any]
KINDS: dict[str, Callable[[Any], bool]] = {
    "null": lambda v: v is None,
    "boolean": lambda v: isinstance(v, bool),
    "integer": lambda v: not isinstance(v, bool) and (isinstance(v, int) or (isinstance(v, float) and v.is_integer())),
    "number": lambda v: not isinstance(v, bool) and isinstance(v, (int, float)),
    "string": lambda v: isinstance(v, str),
    "array": lambda v: isinstance(v, list),
    "object": lambda v: isinstance(v, dict),
}
ARTICLES = {"integer": "an integer", "array": "an array", "object": "an object", "null": "null"}


class Malformed(InvalidValue):
    """A request that is not JSON at all."""


def parse(data: bytes) -> Any:
    """Read strict JSON: no NaN, no infinity.

    Raises
    ------
    Malformed
        With the place where the text stops being JSON.
    """
    try:
        return json.loads(data.decode("utf-8"), parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise Malformed(f"the body is not UTF-8 at byte {error.start}; expected JSON") from None
    except RecursionError:
        raise Malformed("the body is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise Malformed(f"the body is not JSON: {error.msg} at line {error.lineno}, column {error.colno}") from None
    except ValueError as error:  # a number with thousands of digits
        raise Malformed(f"the body is not JSON: {error}") from None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number of JSON")


def check(value: Any, schema: Schema, where: str) -> Any:
    """Return ``value`` as the schema wants it, whole numbers as ``int``.

    Raises
    ------
    InvalidType, InvalidValue
        With the place and what was expected there.
    """
    if not schema.get("type"):
        return _free(value, where, 0)
    kinds = [schema["type"]] if isinstance(schema["type"], str) else list(schema["type"])
    kind = next((kind for kind in kinds if KINDS[kind](value)), None)
    if kind is None:
        raise InvalidType(f"{where}: {_short(value)} is not {' or '.join(ARTICLES.get(k, f'a {k}') for k in kinds)}")
    if "enum" in schema and value not in schema["enum"]:
        raise InvalidValue(f"{where}: {_short(value)} is not one of {json.dumps(list(schema['enum']))}")
    return CHECKS[kind](value, schema, where)


def _same(value: Any, schema: Schema, where: str) -> Any:  # noqa: ARG001 - one signature for all kinds
    return value


def _number(value: Any, schema: Schema, where: str) -> Any:
    try:
        finite = math.isfinite(value)
    except OverflowError:
        finite = False
    if not finite:
        raise InvalidValue(f"{where}: {_short(value)} is too large")
    return _bounded(value, schema, where)


def _integer(value: Any, schema: Schema, where: str) -> Any:
    return _bounded(int(value), schema, where)


def _bounded(value: Any, schema: Schema, where: str) -> Any:
    if "minimum" in schema and value < schema["minimum"]:
        raise InvalidValue(f"{where}: {_short(value)} must be at least {schema['minimum']}")
    if "maximum" in schema and value > schema["maximum"]:
        raise InvalidValue(f"{where}: {_short(value)} must be at most {schema['maximum']}")
    return value


def _string(value: str, schema: Schema, where: str) -> str | None:
    if len(value) < schema.get("minLength", 0):
        raise InvalidValue(f"{where} must not be empty")
    if len(value) > schema.get("maxLength", len(value)):
        raise InvalidValue(f"{where}: {_short(value)} is longer than {schema['maxLength']} characters")
    return clean(value)


def _array(value: list[Any], schema: Schema, where: str) -> list[Any]:
    if len(value) < schema.get("minItems", 0):
        raise InvalidValue(f"{where} has {len(value)} items; expected at least {schema['minItems']}")
    if len(value) > schema.get("maxItems", len(value)):
        raise InvalidValue(f"{where} has {len(value)} items; expected at most {schema['maxItems']}")
    return [check(item, schema.get("items", {}), f"{where}[{i}]") for i, item in enumerate(value)]


def _object(value: dict[str, Any], schema: Schema, where: str) -> dict[str, Any]:
    known, others = schema.get("properties", {}), schema.get("additionalProperties", {})
    if missing := [name for name in schema.get("required", ()) if name not in value]:
        raise InvalidValue(f"{where} lacks {missing[0]!r}")
    if len(value) < schema.get("minProperties", 0):
        raise InvalidValue(f"{where} must not be empty")
    found = {}
    for name, item in value.items():
        if name not in known and others is False:
            raise InvalidValue(f"{where} has the unknown field {_short(name)}; expected are {list(known)!r}")
        found[name] = check(item, known.get(name, others), f"{where}.{name[:80]}")
    return found


def _free(value: Any, where: str, depth: int) -> Any:
    """Check JSON of any shape."""
    if depth > DEEPEST:
        raise InvalidValue(f"{where} is nested more than {DEEPEST} levels deep")
    if isinstance(value, dict):
        for item in value.values():
            _free(item, where, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _free(item, where, depth + 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise InvalidValue(f"{where}: a number in it is too large")
    return value


def _short(value: Any) -> str:
    text = json.dumps(value, default=str) if not isinstance(value, int) or abs(value) < 10**30 else "a huge number"
    return text if len(text) <= 80 else text[:77] + "…"


CHECKS: dict[str, Callable[[Any, Schema, str], Any]] = {
    "null": _same,
    "boolean": _same,
    "integer": _integer,
    "number": _number,
    "string": _string,
    "array": _array,
    "object": _object,
}


# words of the descriptions


def record(_required: str = "", /, **properties: Schema) -> dict[str, Any]:
    """Describe an object with these fields and no others; the names of those it must have are in one string."""
    body: dict[str, Any] = {"type": "object", "properties": properties, "additionalProperties": False}
    return {**body, "required": _required.split()} if _required else body


def several(items: Schema, **more: Any) -> dict[str, Any]:
    """Describe an array."""
    return {"type": "array", "items": items, **more}


def maybe(schema: Schema) -> dict[str, Any]:
    """Describe what may be null as well."""
    body = {**schema, "type": [schema["type"], "null"]}
    return {**body, "enum": [*schema["enum"], None]} if "enum" in schema else body

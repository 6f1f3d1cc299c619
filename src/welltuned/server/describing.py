"""The OpenAPI description, made of the table of operations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from welltuned.server.operations import STATUSES, Operation
from welltuned.server.schema import Schema
from welltuned.server.shapes import NAMED
from welltuned.server.studying import PATH
from welltuned.storage.wire import KEY_HEADER, PROTOCOL

JSON = "application/json"
KEY = "[0-9A-Za-z-]{1,200}"  # what names a request


def document(operations: Sequence[Operation]) -> dict[str, Any]:
    """Describe the operations, in OpenAPI 3.1."""
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "welltuned",
            "version": str(PROTOCOL),
            "description": "Studies over HTTP. Workers ask for trials, report, and tell how they ended.",
        },
        "paths": paths,
        "components": {
            "schemas": {name: _inside(schema) for name, schema in NAMED.items()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(operation: Operation) -> dict[str, Any]:
    body: dict[str, Any] = {
        "operationId": "_".join(part.strip("{}").replace(".", "_") for part in operation.path.split("/")[1:]),
        "summary": operation.summary,
        "parameters": [
            *({"name": name, "in": "path", "required": True, "schema": PATH[name]} for name in operation.parameters),
            *({"name": name, "in": "query", "schema": schema} for name, schema in operation.query.items()),
        ],
        "responses": {
            "200": {"description": "Done.", "content": {JSON: {"schema": _named(operation.answer)}}},
            **{str(status): _failure(status) for status in operation.errors},
        },
    }
    if operation.what:
        body["description"] = operation.what
    if operation.changes:
        body["parameters"].append(
            {
                "name": KEY_HEADER,
                "in": "header",
                "description": "The same request with the same key is done once, and answered again.",
                "schema": {"type": "string", "pattern": f"^{KEY}$"},
            }
        )
    if operation.body is not None:
        body["requestBody"] = {
            "required": operation.body_required,
            "content": {JSON: {"schema": _named(operation.body)}},
        }
    if operation.public:
        body["security"] = []
    return body


def _failure(status: int) -> dict[str, Any]:
    return {"description": STATUSES[status], "content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}}}


def _named(schema: Schema) -> Any:
    """Refer to the records that have a name."""
    for name, known in NAMED.items():
        if schema is known:
            return {"$ref": f"#/components/schemas/{name}"}
    return _inside(schema)


def _inside(schema: Schema) -> Any:
    found: dict[str, Any] = {}
    for word, value in schema.items():
        if word == "properties":
            found[word] = {name: _named(inner) for name, inner in value.items()}
        elif word in ("items", "additionalProperties") and isinstance(value, dict):
            found[word] = _named(value)
        else:
            found[word] = value
    return found

"""The API's description as an OpenAPI 3.1 document, made of the operations and the shapes that they name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import TypeAdapter

from regrow import __version__
from regrow.api.operations import OPERATIONS, Operation, Parameter
from regrow.api.types import ErrorBody, RequestBody
from regrow.asking import ARGUMENTS
from regrow.intents import Intent

Mode = Literal["validation", "serialization"]
Schemas = Mapping[tuple[str, Mode], dict[str, Any]]
"""By an operation's name, of its answer (serialization) and of its body (validation)."""
ERRORS = {
    "400": "What was sent cannot be used.",
    "401": "The console's token is missing; only over its port.",
    "403": "The caller may not do this, or not from there.",
    "404": "There is no such thing.",
    "409": "It cannot be done as things are.",
    "503": "Something that is needed for it is away.",
}


def table() -> str:
    """The operations as the rows of a Markdown table: what docs/reference/api.md shows."""
    rows = []
    for one in OPERATIONS:
        query = "?" + "&".join(parameter.name for parameter in one.query) if one.query else ""
        sent = f" `{one.body.__name__}`" if one.body is not None else ""
        rows.append(f"| {one.method} `{one.path}{query}`{sent} | {one.about} |")
    return "\n".join(rows)


def document() -> dict[str, Any]:
    """The whole document, as JSON has it."""
    shapes: list[tuple[str, Mode, TypeAdapter[Any]]] = [("error", "serialization", TypeAdapter(ErrorBody))]
    for one in OPERATIONS:
        if one.answer is not None:
            shapes.append((one.name, "serialization", TypeAdapter(one.answer)))
        if one.body is not None:
            shapes.append((one.name, "validation", TypeAdapter(one.body)))
    schemas, definitions = TypeAdapter.json_schemas(shapes, ref_template="#/components/schemas/{model}")
    # The shape is known to clients that need not know every intent.
    request = definitions["$defs"][RequestBody.__name__]["properties"]
    request["intent"]["enum"] = [str(intent) for intent in Intent]
    request["args"]["propertyNames"] = {"enum": sorted(ARGUMENTS)}
    paths: dict[str, dict[str, Any]] = {}
    for one in OPERATIONS:
        paths.setdefault(one.path, {})[one.method.lower()] = _described(one, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Regrow",
            "version": __version__,
            "summary": "Repair, rebuild, redeploy and roll back a long-running service.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}, {}],
    }


def _described(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    found: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.about,
        "parameters": [*_of_path(operation.path), *(_parameter(one) for one in operation.query)],
        "responses": {
            "202" if operation.gives == "nothing" else "200": _answer(operation, schemas),
            **{status: _error(about, schemas) for status, about in ERRORS.items()},
        },
    }
    if operation.body is not None:
        schema = schemas[operation.name, "validation"]
        required = any(field.is_required() for field in operation.body.model_fields.values())
        found["requestBody"] = {"required": required, "content": {"application/json": {"schema": schema}}}
    return found


def _answer(operation: Operation, schemas: Schemas) -> dict[str, Any]:
    text = {"schema": {"type": "string"}}
    match operation.gives:
        case "json":
            return {
                "description": "Done.",
                "content": {"application/json": {"schema": schemas[operation.name, "serialization"]}},
            }
        case "text":
            return {"description": "The text.", "content": {"text/plain": text}}
        case "events":
            return {"description": "Server-sent events.", "content": {"text/event-stream": text}}
        case "nothing":
            return {"description": "It will be done."}


def _error(about: str, schemas: Schemas) -> dict[str, Any]:
    return {"description": about, "content": {"application/json": {"schema": schemas["error", "serialization"]}}}


def _of_path(path: str) -> list[dict[str, Any]]:
    if "{number}" not in path:
        return []
    return [
        {
            "name": "number",
            "in": "path",
            "required": True,
            "schema": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
        }
    ]


def _parameter(one: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if one.most:
        schema = {"type": "integer", "minimum": 0} | ({} if one.default is None else {"default": one.default})
    return {"name": one.name, "in": "query", "description": one.about, "schema": schema}

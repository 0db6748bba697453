"""The description of the API: whole, consistent with itself, and what the page of the reference shows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from regrow.api import openapi
from regrow.api.operations import OPERATIONS
from regrow.asking import ARGUMENTS
from regrow.intents import Intent

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "api.md"


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "$ref":
                yield inner
            else:
                yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


def test_every_call_is_described_once_and_every_shape_that_is_named_is_there() -> None:
    document = openapi.document()
    described = [one["operationId"] for path in document["paths"].values() for one in path.values()]
    assert sorted(described) == sorted(one.name for one in OPERATIONS)
    assert len(set(described)) == len(described)
    known = {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    named = set(references(document))
    assert named
    assert named <= known
    assert json.loads(json.dumps(document)) == document


def test_it_says_which_intents_and_arguments_there_are() -> None:
    fields = openapi.document()["components"]["schemas"]["RequestBody"]["properties"]
    assert fields["intent"]["enum"] == [str(intent) for intent in Intent]
    assert fields["args"]["propertyNames"]["enum"] == sorted(ARGUMENTS)


def test_a_body_is_required_where_it_has_something_to_say() -> None:
    paths = openapi.document()["paths"]
    assert paths["/v1/requests"]["post"]["requestBody"]["required"]
    assert not paths["/v1/daemon/stop"]["post"]["requestBody"]["required"]
    assert "requestBody" not in paths["/v1/jobs/{number}/cancel"]["post"]


def test_the_page_of_the_reference_lists_every_call() -> None:
    assert openapi.table() in PAGE.read_text(), "write what `regrow.api.openapi.table()` gives into the page"

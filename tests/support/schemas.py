"""The JSON schemas of docs/schemas, to hold documents against."""

import json
from collections.abc import Callable
from typing import Any

import jsonschema

from support.paths import ROOT

FOLDER = ROOT / "docs" / "schemas"


def checker(name: str) -> Callable[[Any], None]:
    """A function that raises where a document is not what the schema `name` says; NaN and Infinity are no JSON."""
    schema = json.loads((FOLDER / f"{name}.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)

    def check_document(document: Any) -> None:
        validator.validate(json.loads(json.dumps(document, allow_nan=False)))

    return check_document

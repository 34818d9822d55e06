"""What a command printed for --json, checked against its schema in docs/schemas/."""

import json
import subprocess
from pathlib import Path
from typing import Any

from cifar_deploy import documents
from tests.conftest import need_package

FOLDER = Path(__file__).parents[1] / "docs" / "schemas"


def document_of(done: subprocess.CompletedProcess[str], command: str) -> Any:
    """The one document on stdout. It holds every field of its schema, and no other."""
    need_package("jsonschema")
    import jsonschema

    assert done.stdout.isascii(), done.stdout
    document = json.loads(done.stdout, parse_constant=_refuse)
    schema = _closed(json.loads((FOLDER / documents.schema_file(command)).read_text()))
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(document)
    assert (document["version"], document["command"]) == (1, command)
    return document


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def _closed(schema: Any) -> Any:
    """The same schema, for objects that hold no more than it says: a script's may, since fields are added."""
    if isinstance(schema, list):
        return [_closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {key: _closed(value) for key, value in schema.items()}
    return {**closed, "additionalProperties": False} if "required" in closed else closed

"""Parameters as readable MLflow columns, without secrets or patient paths."""

import re
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel

from dreamorph.tracking.names import tidy_name

_SECRET = re.compile(r"(?i)(password|passwd|secret|token|credential|api_?key)")
_PATH_NAME = re.compile(r"(?i)(^|_)(path|folder|file|dir|manifest)s?$")
_PATH_VALUE = re.compile(r"^(/|~|\.{1,2}/|[A-Za-z]:\\)")
_LONGEST = 500
#: A pattern for subjects may list them.
_NAMES_PEOPLE = ("regex",)
#: In place of a path: even its last name may be a patient's.
HIDDEN = "hidden"


def columns(parameters: Mapping[str, Any]) -> dict[str, str]:
    """Flatten nested dicts and pydantic models to `registration.learning_rate` -> text.

    Secrets are left out; paths and patterns for subjects are hidden, since they may name patients.
    """
    return {
        tidy_name(name): _public(name.rpartition(".")[2], value)
        for name, value in _flat(parameters, "")
        if not _SECRET.search(name)
    }


def _flat(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, BaseModel):
        value = value.model_dump()
    if isinstance(value, Mapping) and value:
        for key, item in value.items():
            yield from _flat(item, f"{prefix}.{key}" if prefix else str(key))
    elif prefix:
        yield prefix, value


def _public(key: str, value: Any) -> str:
    text = str(value)
    named = isinstance(value, str) and _PATH_NAME.search(key)
    people = key in _NAMES_PEOPLE and value is not None
    if isinstance(value, PurePath) or named or people or _PATH_VALUE.match(text):
        return HIDDEN
    return text[:_LONGEST]

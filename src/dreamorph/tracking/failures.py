"""Any error as the one line a user can act on."""

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, get_args

import torch
from pydantic import BaseModel, ValidationError

from dreamorph.datasets.atomic import explain_os_error
from dreamorph.errors import DreamorphError, ParameterError

_PATH = "[path]"
#: Where a text is taken apart: a path ends there at the latest.
_PIECES = re.compile(r"(:\s+|;\s+)")
_QUOTED = re.compile(r"(?<!\w)(['\"`])(.*?[/\\].*?)\1(?!\w)")
#: The start of a path that is plainly one: /x, ~/x, ../x, C:\x, \\host, file:///x. To the end.
_START = re.compile(
    r"(?:(?<!\w)[A-Za-z][\w+.-]*:/|(?<!\w)[A-Za-z]:\\|(?<!\w)~[\w.-]*[/\\]"
    r"|(?<![\w.])\.{1,2}[/\\]|(?<![\w.~)])[/\\]).*"
)
#: A fraction or a pair of letters.
_NO_PATH = re.compile(r"(?<![\w/\\.])(?:\d+/\d+|[A-Za-z]/[A-Za-z])(?![\w/\\])")
_VOLUME = re.compile(r"\.(?:nii|dcm|npz)\b", re.IGNORECASE)
_LONGEST = 600
_NO_SUCH_NODE = ("Pipeline contains no nodes", "Pipeline does not contain")
_CONFIGURATION = {"MissingConfigException", "ParameterValidationError", "KedroCliError"}


def one_line(error: BaseException) -> str:
    """The clearest line among an error and its causes: what was expected, what came, what to do."""
    chain = list(causes(error))
    for cause in chain:
        if isinstance(cause, DreamorphError):
            return _squash(str(cause))
    for cause in chain:
        if isinstance(cause, ValidationError):
            return describe_validation(cause)
    line = explain_os_error(error) or _exhausted(chain) or _kedro(chain)
    if line:
        return _squash(line)
    return _squash(f"unexpected {type(error).__name__}: {error}")


def expected(error: BaseException) -> bool:
    """Whether the error is one that the user can act on, so that no traceback is needed."""
    return not one_line(error).startswith("unexpected ")


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error, then what caused it, and so on."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def scrub(text: str) -> str:
    """A text without any path: folders and files may name patients or people.

    Names hold spaces, so a path counts as long as it can be, which loses other words rather than
    half a name: a whole quotation, else up to the next colon or semicolon. Where no start of it
    can be told, as of a relative path, its whole piece of the text goes.
    """
    return "".join(map(_without_path, _PIECES.split(text)))


def _without_path(piece: str) -> str:
    piece = _QUOTED.sub(rf"\1{_PATH}\1", piece)
    piece = _START.sub(_PATH, piece)
    rest = _NO_PATH.sub("", piece)
    return _PATH if _VOLUME.search(rest) or "/" in rest or "\\" in rest else piece


def check_parameters(raw: dict[str, Any], model: type[BaseModel]) -> None:
    """Check all parameters against their root model before any work is done.

    Raises ParameterError naming each bad key, and the known key nearest to an unknown one.
    """
    try:
        model.model_validate(raw)
    except ValidationError as error:
        raise ParameterError(describe_validation(error, model)) from error


def describe_validation(error: ValidationError, model: type[BaseModel] | None = None) -> str:
    """The findings of a pydantic error on one line."""
    return _squash("; ".join(_finding(item, model) for item in error.errors()))


def _finding(item: Any, model: type[BaseModel] | None) -> str:
    location = [str(part) for part in item["loc"]]
    name = ".".join(location)
    if item["type"] == "extra_forbidden":
        return f"parameter '{name}' is unknown{_suggestion(location, model)}"
    if item["type"] == "missing":
        return f"parameter '{name}' is missing"
    message = item["msg"].removeprefix("Value error, ")
    return f"parameter '{name}' = {item['input']!r} is not valid: {message}"


def _suggestion(location: list[str], model: type[BaseModel] | None) -> str:
    for part in location[:-1]:
        field = model.model_fields.get(part) if model else None
        # A key of a dict or an index of a list stays with the same model.
        model = (_model_within(field.annotation) if field else None) or model
    known = list(model.model_fields) if model else []
    near = get_close_matches(location[-1], known, n=1, cutoff=0.6)
    prefix = "".join(f"{part}." for part in location[:-1])
    if near:
        return f"; did you mean '{prefix}{near[0]}'?"
    return f"; known here: {', '.join(known)}" if known else ""


def _model_within(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_within, get_args(annotation))), None)


def _exhausted(chain: list[BaseException]) -> str | None:
    for cause in chain:
        if isinstance(cause, torch.OutOfMemoryError):
            return "not enough memory on the GPU: choose smaller batches or a coarser grid"
        if isinstance(cause, MemoryError):
            return "not enough memory: choose smaller batches, a coarser grid or fewer cases"
    return None


def _kedro(chain: list[BaseException]) -> str | None:
    """Kedro's and OmegaConf's own complaints about configuration, which name what is wrong."""
    for cause in chain:
        module = type(cause).__module__.split(".")[0]
        text = str(cause)
        if "has not been saved yet" in text:
            return (
                "a step needs the result of an earlier one that is kept in memory only: "
                "run the earlier step in the same command"
            )
        if module in ("omegaconf", "yaml") or type(cause).__name__ in _CONFIGURATION:
            return f"configuration: {text}"
        if text.startswith(_NO_SUCH_NODE):
            return text
    return None


def _squash(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."

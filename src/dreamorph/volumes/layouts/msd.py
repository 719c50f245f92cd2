"""Medical Segmentation Decathlon: dataset.json, imagesTr, labelsTr, imagesTs.

`dataset.json` is authoritative where it exists: a file in the folders that it does not list is
named in the quarantine table, never silently used. Without it the folders themselves are read.
Images of imagesTs (or of the list "test") are unlabelled cases.
"""

from pathlib import Path
from typing import Any

from dreamorph.errors import CohortError
from dreamorph.volumes.config import CohortConfig
from dreamorph.volumes.io import stem
from dreamorph.volumes.layouts.common import (
    LayoutReader,
    data_set_name,
    modality_of,
    one_a_case,
    read_json,
)
from dreamorph.volumes.records import CaseFiles, Expectation, Layout, LayoutFacts


def read(path: Path, config: CohortConfig) -> Layout:
    """List the cases of an MSD folder."""
    description: dict[str, Any] = {}
    if (path / "dataset.json").is_file():
        description = read_json(path / "dataset.json")
    training, test = description.get("training"), description.get("test")
    if training is None:
        cases = _from_folders(path)
    else:
        cases = _from_lists(path, training, test or [])
        known = {address for case in cases for address in (case.image, case.label)}
        cases += [case for case in _from_folders(path, set(known)) if not case.listed]
    facts = LayoutFacts(
        layout="msd",
        data_set=data_set_name(description, path),
        modality=modality_of(_channel(description.get("modality"), config.channel)),
        label_names=_label_names(description.get("labels"), path),
    )
    return Layout(cases, facts)


def recognises(path: Path) -> bool:
    """A dataset.json with a list of training volumes, or imagesTr."""
    if (path / "imagesTr").is_dir():
        return True
    return (path / "dataset.json").is_file() and "training" in read_json(path / "dataset.json")


def _from_lists(path: Path, training: Any, test: Any) -> list[CaseFiles]:
    cases = []
    for key, entries in (("training", training), ("test", test)):
        if not isinstance(entries, list):
            raise CohortError(
                f"{path / 'dataset.json'}: expected a list under {key!r}, got {entries!r}"
            )
    for entry, expected in [(e, True) for e in training] + [(e, False) for e in test]:
        image = entry.get("image") if isinstance(entry, dict) else entry
        label = entry.get("label") if isinstance(entry, dict) else None
        if not isinstance(image, str):
            raise CohortError(
                f"{path / 'dataset.json'}: expected a path under 'image' in every entry of"
                f" 'training' and 'test', got a {type(image).__name__}"
            )
        if label is not None and not isinstance(label, str):
            raise CohortError(
                f"{path / 'dataset.json'}: expected a path under 'label' in every entry of"
                f" 'training', got a {type(label).__name__}"
            )
        cases.append(
            CaseFiles(
                case=stem(Path(image)),
                subject=None,
                image=_existing(path / image),
                label=_existing(path / label) if label else None,
                label_expected="yes" if expected else "no",
            )
        )
    return cases


def _from_folders(path: Path, known: set[str | None] | None = None) -> list[CaseFiles]:
    """Pairs by file name; with `known` addresses, only those none of whose files is known."""
    labels = {stem(file): file for file in one_a_case(path / "labelsTr")}
    cases = []
    for folder, expected in (("imagesTr", True), ("imagesTs", False)):
        for image in one_a_case(path / folder):
            label = labels.pop(stem(image), None) if expected else None
            cases.append(_case(stem(image), image, label, expected, known))
    cases += [_case(name, None, label, True, known) for name, label in labels.items()]
    return cases


def _case(
    name: str, image: Path | None, label: Path | None, expected: bool, known: set[str | None] | None
) -> CaseFiles:
    first = str(image) if image else None
    second = str(label) if label else None
    unknown = known is not None and not {first, second} & (known - {None})
    expectation: Expectation = "yes" if expected else "no"
    return CaseFiles(name, None, first, second, label_expected=expectation, listed=not unknown)


def _existing(file: Path) -> str | None:
    return str(file) if file.is_file() else None


def _channel(modality: Any, channel: int) -> Any:
    return modality.get(str(channel)) if isinstance(modality, dict) else modality


def _label_names(labels: Any, path: Path) -> dict[int, str]:
    try:
        return {int(value): str(name) for value, name in (labels or {}).items() if int(value) != 0}
    except (AttributeError, ValueError) as error:
        raise CohortError(
            f"{path / 'dataset.json'}: expected 'labels' as value -> name, got {labels!r}"
        ) from error


READER = LayoutReader(
    "msd", "dataset.json or imagesTr/ with labelsTr/ and imagesTs/", recognises, read
)

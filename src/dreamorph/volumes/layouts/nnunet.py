"""nnU-Net raw: imagesTr with a channel suffix `_0000`, labelsTr, imagesTs, dataset.json.

Of version 2 and of version 1, whose dataset.json has `modality` instead of `channel_names` and
labels the other way round. One channel (`cohort.channel`) is read, the others are ignored.
imagesTs are unlabelled cases, unless a folder labelsTs holds their labels.
"""

import re
from pathlib import Path
from typing import Any

from dreamorph.errors import CohortError
from dreamorph.volumes.config import CohortConfig
from dreamorph.volumes.io import ENDINGS, stem
from dreamorph.volumes.layouts.common import (
    LayoutReader,
    data_set_name,
    modality_of,
    nifti_files,
    one_a_case,
    read_json,
)
from dreamorph.volumes.records import CaseFiles, Expectation, Layout, LayoutFacts

_CHANNEL = re.compile(r"^(?P<case>.+)_(?P<channel>\d{4})$")


def read(path: Path, config: CohortConfig) -> Layout:
    """List the cases of an nnU-Net raw folder."""
    description: dict[str, Any] = {}
    if (path / "dataset.json").is_file():
        description = read_json(path / "dataset.json")
    ending = description.get("file_ending", ENDINGS[0])
    if ending not in ENDINGS:
        raise CohortError(
            f"{path / 'dataset.json'}: file_ending {ending!r} is not read; convert to .nii.gz"
        )
    cases = _part(path, "Tr", config.channel, expected="yes")
    has_test_labels = (path / "labelsTs").is_dir()
    cases += _part(path, "Ts", config.channel, "yes" if has_test_labels else "no")
    channels = description.get("channel_names") or description.get("modality") or {}
    if not isinstance(channels, dict):
        raise CohortError(
            f"{path / 'dataset.json'}: expected 'channel_names' as number -> name, got {channels!r}"
        )
    facts = LayoutFacts(
        layout="nnunet",
        data_set=data_set_name(description, path),
        modality=modality_of(channels.get(str(config.channel), "")),
        label_names=_label_names(description.get("labels"), path),
    )
    return Layout(cases, facts)


def recognises(path: Path) -> bool:
    """channel_names in dataset.json, or images that carry a channel where their labels do not."""
    if not path.is_dir():
        return False
    if (path / "dataset.json").is_file():
        description = read_json(path / "dataset.json")
        if "channel_names" in description:
            return True
        if _all_there(path, description.get("training")):
            return False  # version 1 lists images without their channel, which do not exist
    images = [stem(file) for file in nifti_files(path / "imagesTr")]
    labels = {stem(file) for file in nifti_files(path / "labelsTr")}
    matches = [_CHANNEL.match(name) for name in images]
    if not images or not all(matches) or labels & set(images):
        return False
    return any(match["case"] in labels or match["channel"] == "0000" for match in matches if match)


def _all_there(path: Path, listed: Any) -> bool:
    """Whether the images that a description lists exist, as those of an MSD folder do."""
    entries = listed if isinstance(listed, list) else []
    names = [entry.get("image") for entry in entries if isinstance(entry, dict)]
    return bool(names) and all(isinstance(n, str) and (path / n).is_file() for n in names)


def _part(path: Path, part: str, channel: int, expected: Expectation) -> list[CaseFiles]:
    images: dict[str, str | None] = {}
    for file in one_a_case(path / f"images{part}"):
        match = _CHANNEL.match(stem(file))
        name = match["case"] if match else stem(file)
        images.setdefault(name, None)
        if match is None or int(match["channel"]) == channel:
            images[name] = str(file)
    labels = {stem(file): str(file) for file in one_a_case(path / f"labels{part}")}
    return [
        CaseFiles(name, None, images.get(name), labels.get(name), label_expected=expected)
        for name in list(images) + [name for name in labels if name not in images]
    ]


def _label_names(labels: Any, path: Path) -> dict[int, str]:
    names: dict[int, str] = {}
    if not isinstance(labels or {}, dict):
        raise CohortError(
            f"{path / 'dataset.json'}: expected 'labels' as name -> value, got {labels!r}"
        )
    if all(key.isdecimal() and isinstance(name, str) for key, name in (labels or {}).items()):
        labels = {name: int(value) for value, name in (labels or {}).items()}  # of version 1
    for name, value in (labels or {}).items():
        if name == "ignore":
            continue
        values = value if isinstance(value, list) else [value]
        if not all(isinstance(v, int) for v in values):
            raise CohortError(
                f"{path / 'dataset.json'}: expected 'labels' as name -> value, got {labels!r}"
            )
        # of overlapping regions the last one that holds a value names it, as nnU-Net paints them
        names.update({v: str(name) for v in values})
    names.pop(0, None)
    return names


READER = LayoutReader(
    "nnunet", "nnU-Net raw, imagesTr/CASE_0000.nii.gz with labelsTr/", recognises, read
)

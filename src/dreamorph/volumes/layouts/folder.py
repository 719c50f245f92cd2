"""A plain folder of image and label pairs, at any depth.

A file is a label if it lies below a folder such as labels/ or masks/, or if its name ends in
_label, _seg, _mask and the like; any other volume is an image. Image and label belong together if
the rest of their names is equal, if they are the only pair in a folder of their own, or if they
carry the same BIDS entities sub-XX and ses-XX. An image without a label is an unlabelled case,
whether it lies in a folder unlabelled/ or beside the others; called like a labelled one with
something added (A_T2 beside A), it is of the same subject.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from dreamorph.errors import CohortError
from dreamorph.volumes.config import CohortConfig
from dreamorph.volumes.io import stem
from dreamorph.volumes.layouts.common import BIDS, LayoutReader, natural_key, nifti_files
from dreamorph.volumes.records import CaseFiles, Layout, LayoutFacts

_LABEL = r"(?:labels?|seg|segmentations?|masks?|gt|dseg|roi|annotations?)"
_IMAGE = r"(?:images?|img|imgs|volumes?|scans?)"
_UNLABELLED = r"unlabell?ed"
_LABEL_FOLDER = re.compile(rf"^{_LABEL}(?:tr|ts)?$", re.IGNORECASE)
_ROLE_FOLDER = re.compile(rf"^(?:{_LABEL}|{_IMAGE})(?:tr|ts)?$|^{_UNLABELLED}$", re.IGNORECASE)
_UNLABELLED_FOLDER = re.compile(rf"^{_UNLABELLED}$", re.IGNORECASE)
_LABEL_NAME = re.compile(rf"(?:^|[_. -]){_LABEL}$", re.IGNORECASE)
_IMAGE_NAME = re.compile(rf"(?:^|[_. -])(?:{_IMAGE}|0000)$", re.IGNORECASE)


def read(path: Path, config: CohortConfig) -> Layout:
    """List the cases below a folder."""
    own_folders = _own_folders(path)
    images: dict[str, list[Path]] = defaultdict(list)
    labels: dict[str, list[Path]] = defaultdict(list)
    subjects: dict[str, str] = {}
    declared: set[str] = set()
    files = nifti_files(path, recursive=True)
    full = {_key(file, path, True, own_folders)[0] for file in files if _is_label(file, path)}
    for file in files:
        is_label = _is_label(file, path)
        key, subject = _key(file, path, is_label, own_folders, full)
        (labels if is_label else images)[key].append(file)
        if any(_UNLABELLED_FOLDER.match(part) for part in file.relative_to(path).parts[:-1]):
            declared.add(key)
        if subject is not None and config.subject.regex is None:
            subjects[key] = subject
    ambiguous = [key for group in (images, labels) for key, files in group.items() if files[1:]]
    if ambiguous:
        raise CohortError(
            f"cohort.path: {path}: {len(ambiguous)} cases have more than one image or label;"
            " give a CSV manifest with columns case, subject, image, label, class, split"
        )
    if config.subject.regex is None:
        labelled = images.keys() & labels.keys()
        for key in images.keys() - labels.keys() - subjects.keys():
            owner = _longest_start(key, labelled)
            if owner is not None:
                subjects[key] = subjects.get(owner, owner)
                subjects.setdefault(owner, owner)
    cases = [
        CaseFiles(
            case=key,
            subject=subjects.get(key),
            image=str(images[key][0]) if key in images else None,
            label=str(labels[key][0]) if key in labels else None,
            label_expected="no" if key in declared else "open",
        )
        for key in sorted(images.keys() | labels.keys(), key=natural_key)
    ]
    return Layout(cases, LayoutFacts(layout="folder"))


def _longest_start(key: str, others: Collection[str]) -> str | None:
    """The longest of other names that this one begins with, up to a mark between words."""
    cuts = [k for k, letter in enumerate(key) if letter in "_-. "]
    return next((key[:cut] for cut in reversed(cuts) if key[:cut] in others), None)


def recognises(path: Path) -> bool:
    """Any folder with a NIfTI file below it."""
    return path.is_dir() and bool(nifti_files(path, recursive=True))


def _is_label(file: Path, root: Path) -> bool:
    folders = file.relative_to(root).parts[:-1]
    if any(_LABEL_FOLDER.match(folder) for folder in folders):
        return True
    return bool(_LABEL_NAME.search(stem(file)))


def _own_folders(root: Path) -> set[Path]:
    """Folders below the root that hold exactly one image and one label."""
    content: dict[Path, list[bool]] = defaultdict(list)
    for file in nifti_files(root, recursive=True):
        content[file.parent].append(_is_label(file, root))
    return {
        folder
        for folder, roles in content.items()
        if folder != root and sorted(roles) == [False, True]
    }


def _key(
    file: Path,
    root: Path,
    is_label: bool,
    own_folders: set[Path],
    labels: Collection[str] = (),
) -> tuple[str, str | None]:
    """Case of a file, and its subject where the name says so.

    An image called as one of the `labels` is of that case: in case_0000 the number may be a channel
    or the case's own.
    """
    name = unicodedata.normalize("NFC", stem(file))  # some systems write é as two letters
    bids = BIDS.match(name)
    if bids:
        return bids.group(1) + (bids.group(2) or ""), bids.group(1)
    if file.parent in own_folders:
        return file.parent.name, None
    rest = (_LABEL_NAME if is_label else _IMAGE_NAME).sub("", name)
    if not is_label and name in labels:
        return name, None
    if rest:
        return rest, None
    folders = [p for p in file.relative_to(root).parts[:-1] if not _ROLE_FOLDER.match(p)]
    return (folders[-1] if folders else name), None


READER = LayoutReader(
    "folder",
    "images/ and labels/, or CASE_image and CASE_label (_seg, _mask), or BIDS sub-XX",
    recognises,
    read,
)

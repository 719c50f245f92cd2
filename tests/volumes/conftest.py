"""Synthetic volumes and cohorts, written with nibabel, with answers known by construction."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

SHAPE = (12, 14, 10)


def oblique(spacing: tuple[float, float, float], degrees: float = 20.0) -> np.ndarray:
    """Axes near R, A, S turned about an odd axis; origin far from 0."""
    angle = np.radians(degrees)
    axis = np.array([1.0, 2.0, 3.0]) / np.sqrt(14)
    cross = np.cross(np.eye(3), axis)
    turn = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
    affine = np.eye(4)
    affine[:3, :3] = turn * np.array(spacing)
    affine[:3, 3] = (-31.25, 17.5, 103.75)
    return affine


def affine_of(kind: str, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> np.ndarray:
    """An affine of the given orientation; the spacing is along the array axes."""
    if kind == "oblique":
        return oblique(spacing)
    signs = {"RAS": (1, 1, 1), "LAS": (-1, 1, 1), "LPS": (-1, -1, 1), "SRA": (1, 1, 1)}[kind]
    affine = np.diag([*(np.array(signs) * spacing), 1.0])
    affine[:3, 3] = (-20.5, 33.25, 7.0)
    if kind == "SRA":  # array axes run along S, R, A
        affine[:3, :3] = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]]) @ np.diag(spacing)
    return affine


def world_of(affine: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """World mm (3, D, H, W) of every voxel centre."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"))
    return np.einsum("ij,jdhw->idhw", affine[:3, :3], index) + affine[:3, 3][:, None, None, None]


def save(path: Path, array: np.ndarray, affine: np.ndarray | None = None) -> Path:
    """Write a NIfTI file, folders included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4) if affine is None else affine), path)
    return path


def image(seed: int, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Noise around 100, different for each seed."""
    return np.random.default_rng(seed).normal(100, 10, shape).astype(np.float32)


def label(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Two boxes: label 1 and label 2."""
    result = np.zeros(shape, dtype=np.uint8)
    result[3:6, 4:8, 3:6] = 1
    result[6:9, 4:8, 3:6] = 2
    return result


def msd(
    root: Path, ids: range, listed: bool = True, change: Callable[[dict[str, Any]], None] = id
) -> Path:
    """An MSD folder with labels for all `ids`; `change` edits the description before writing."""
    entries = []
    for i in ids:
        save(root / f"imagesTr/scan_{i:03d}.nii.gz", image(i))
        save(root / f"labelsTr/scan_{i:03d}.nii.gz", label())
        entries.append(
            {
                "image": f"./imagesTr/scan_{i:03d}.nii.gz",
                "label": f"./labelsTr/scan_{i:03d}.nii.gz",
            }
        )
    description = {
        "modality": {"0": "MRI"},
        "labels": {"0": "background", "1": "front", "2": "back"},
        "training": entries,
        "test": [],
    }
    change(description)
    if listed:
        (root / "dataset.json").write_text(json.dumps(description))
    return root


class Builders:
    """The helpers above as one fixture, so that tests import no helper module."""

    shape = SHAPE
    save = staticmethod(save)
    image = staticmethod(image)
    label = staticmethod(label)
    msd = staticmethod(msd)
    affine_of = staticmethod(affine_of)
    world_of = staticmethod(world_of)


@pytest.fixture
def build() -> type[Builders]:
    """Builders of synthetic volumes and cohorts."""
    return Builders

"""Show a network each test image with and without a structure (the check `remove` judges it).

Each image is shown as it is, with the structure painted out, and with the same painting where the
structure is not (sham). A volume that lacks the structure is shown as it is: truly empty.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

import numpy as np
import pandas as pd
import torch
from scipy import ndimage

from dreamorph.hallucination.config import AuditConfig
from dreamorph.hallucination.evidence import REMOVAL_COLUMNS
from dreamorph.hallucination.inpainting import remove_structure, sham

Predict = Callable[[torch.Tensor], torch.Tensor]

#: So many voxels beyond the painted region may hold what an honest net drew too widely around the
#: structure: it is not of the painting, and stays when the structure goes. Farther away, or
#: without a connection to the region, what is drawn is false.
MARGIN_VOXELS = 2
#: How a volume is shown.
CONDITIONS = ("intact", "removed", "sham", "empty")


@dataclass(frozen=True)
class TestImages:
    """Volumes to show a net: images, labels and masks `(N, 1, *shape)`, N names each.

    A volume without the structure serves as a truly empty control.

    Attributes:
        spacing_mm: voxel size.
        structure: the label to paint out; None: all labels together.
        name: what it is called in the table.
    """

    __test__ = False

    images: torch.Tensor
    labels: torch.Tensor
    masks: torch.Tensor
    cases: list[str]
    subjects: list[str]
    spacing_mm: tuple[float, ...]
    structure: int | None = None
    name: str = "all labels"


def measure_removal(
    predict: Predict, tests: TestImages, config: AuditConfig, arm: str = "dream", seed: int = 0
) -> pd.DataFrame:
    """Show a net each image intact, with the structure painted out, and with a sham.

    A volume whose label does not hold the structure is shown as it is, as a truly empty control.

    Args:
        predict: images `(B, 1, *shape)` float32 to integer labels `(B, 1, *shape)`.
        tests: the volumes; one is shown at a time.
        arm, seed: of the net, for the table.

    Returns:
        One row per case and condition (`intact`, `removed`, `sham`, `empty`), REMOVAL_COLUMNS.
        `dice`: against the true structure (intact), or against the intact prediction outside the
        sham region (sham).
    """
    rows = []
    for index in range(len(tests.cases)):
        # a generator per case, so that the order and number of cases do not matter
        generator = np.random.default_rng([config.seed, index])
        for condition, numbers in _measure_case(predict, tests, index, config, generator):
            case = (tests.cases[index], tests.subjects[index])
            what = (tests.structure or 0, tests.name, condition)
            rows.append((arm, seed, *case, *what, *numbers))
    return pd.DataFrame(rows, columns=list(REMOVAL_COLUMNS))


def _measure_case(
    predict: Predict,
    tests: TestImages,
    index: int,
    config: AuditConfig,
    generator: np.random.Generator,
) -> list[tuple[str, tuple[float, ...]]]:
    image = tests.images[index, 0].cpu().numpy()
    mask = tests.masks[index, 0].cpu().numpy().astype(bool)
    truth = _structure(tests.labels[index, 0].cpu().numpy(), tests.structure)
    ml = prod(tests.spacing_mm) / 1000
    intact = _show(predict, image, tests.structure)
    if not truth.any():
        drawn = intact & mask
        return [("empty", (0.0, mask.sum() * ml, drawn.sum() * ml, _pieces(drawn), np.nan))]
    volume = truth.sum() * ml
    wrong = intact & mask & ~truth
    rows: list[tuple[str, tuple[float, ...]]]
    rows = [("intact", (volume, 0.0, wrong.sum() * ml, _pieces(wrong), _dice(intact, truth)))]
    painted, region = remove_structure(image, truth, mask, config.removal, generator)
    drawn = _false(_show(predict, painted, tests.structure) & mask, intact, region)
    numbers = (volume, region.sum() * ml, drawn.sum() * ml, _pieces(drawn), np.nan)
    rows.append(("removed", numbers))
    shammed = sham(image, truth, mask, config.removal, generator)
    if shammed is not None:
        painted, region = shammed
        answer = _show(predict, painted, tests.structure)
        # the structure is still there: false is what appears in the sham region
        drawn = answer & region
        kept = _dice(answer & ~region, intact & ~region)
        rows.append(("sham", (volume, region.sum() * ml, drawn.sum() * ml, _pieces(drawn), kept)))
    return rows


def _false(answer: np.ndarray, intact: np.ndarray, region: np.ndarray) -> np.ndarray:
    """What is false of the answer to an image from which the structure is gone: nearly all of it.

    Also beside the painted region, and also what was drawn there before the painting: a second
    organ that the net always draws is no truer for it. Excused is the margin alone.
    """
    before = answer & intact & ~region
    # grows within what was drawn before, so that nothing apart from the region is excused
    reach = ndimage.binary_dilation(region, iterations=MARGIN_VOXELS, mask=region | before)
    return answer & ~(reach & before)


def _show(predict: Predict, image: np.ndarray, structure: int | None) -> np.ndarray:
    batch = torch.from_numpy(np.ascontiguousarray(image, np.float32))[None, None]
    answer = predict(batch)
    if tuple(answer.shape) != tuple(batch.shape):
        raise ValueError(
            f"predict: expected labels of shape {tuple(batch.shape)}, got {tuple(answer.shape)}"
        )
    return _structure(answer[0, 0].cpu().numpy(), structure)


def _structure(labels: np.ndarray, structure: int | None) -> np.ndarray:
    return np.asarray(labels > 0 if structure is None else labels == structure)


def _pieces(drawn: np.ndarray) -> float:
    return float(ndimage.label(drawn, np.ones((3,) * drawn.ndim))[1])


def _dice(a: np.ndarray, b: np.ndarray) -> float:
    total = a.sum() + b.sum()
    return float(2 * (a & b).sum() / total) if total else float("nan")

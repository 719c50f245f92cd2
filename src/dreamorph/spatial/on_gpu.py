"""Whether Triton's programs take tensors, and how they are started."""

import logging
import math
from functools import lru_cache
from typing import Any

import torch

logger = logging.getLogger(__name__)

#: Places of a program.
BLOCK = 256
#: Voxels whose three components can be numbered.
MOST = 2**31 // 3


def fused(*tensors: torch.Tensor) -> bool:
    """Whether the fused programs take these, and nobody asks for a gradient by them."""
    wanted = torch.is_grad_enabled() and any(one.requires_grad for one in tensors)
    return not wanted and takes(*tensors)


def takes(*tensors: torch.Tensor) -> bool:
    """Whether these are volumes or fields that the fused programs take.

    They take `(B, C, *shape)` of three axes in single precision on a GPU, where Triton works.
    """
    return all(
        one.is_cuda
        and one.dtype == torch.float32
        and one.dim() == 5
        and math.prod(one.shape[2:]) < MOST
        for one in tensors
    ) and _works(tensors[0].device)


@lru_cache
def _works(device: torch.device) -> bool:
    """Triton comes with torch for Linux, and wants a C compiler."""
    try:
        from dreamorph.spatial.fused import smoothed

        smoothed(torch.zeros(1, 1, 1, 1, 4, device=device), (1.0,), 2)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        logger.info("no fused programs on this GPU, registrations take longer: %s", error)
        return False
    return True


def launch(
    program: Any, like: torch.Tensor, places: int, *arguments: Any, **constants: Any
) -> None:
    """Start a program for so many places of each pair of a batch (or each of its components).

    `like` lies on the device and has the batch as its first axis. Programs know nothing of strides:
    raises ValueError for a tensor that is not contiguous.
    """
    if not all(one.is_contiguous() for one in arguments if isinstance(one, torch.Tensor)):
        raise ValueError("a fused program takes contiguous tensors alone")
    with torch.cuda.device_of(like):
        program[programs(places), like.shape[0]](*arguments, BLOCK=BLOCK, **constants)


def programs(places: int) -> int:
    """How many programs share so many places."""
    return math.ceil(places / BLOCK)

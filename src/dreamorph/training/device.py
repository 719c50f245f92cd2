"""Where networks live."""

import torch

from dreamorph.errors import TrainingError


def device_named(name: torch.device | str) -> torch.device:
    """The device a parameter means; auto is a GPU where there is one.

    Raises:
        TrainingError: a GPU is asked for by name and there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise TrainingError("training.device is 'cuda' but there is no GPU: use auto or cpu")
    return device

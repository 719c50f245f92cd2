"""Networks by short name, for small data."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from dreamorph.errors import TrainingError
from dreamorph.training.config import TrainingConfig
from dreamorph.training.convolution import quick_on_a_cpu
from dreamorph.training.data import Task


@dataclass(frozen=True)
class NetworkSpec:
    """All that is needed to build a network again; plain values only.

    Attributes:
        name: short name in the registry.
        task: `segmentation` or `classification`.
        ndim: spatial dimensions, 2 or 3.
        n_channels, n_outputs: channels in; labels with background, or classes, out.
        channels: widths of the levels.
        dropout: probability.
        residual_units: convolutions of each level of the UNet; 0 for one plain convolution.
    """

    name: str
    task: str
    ndim: int
    n_channels: int
    n_outputs: int
    channels: tuple[int, ...]
    dropout: float = 0.0
    residual_units: int = 0

    @property
    def multiple(self) -> int:
        """Volumes are padded to a multiple of this many voxels along each axis."""
        return int(2 ** (len(self.channels) - 1))


class PaddedNetwork(nn.Module):
    """A network that takes any volume size: pads with zeros, and crops what has the same grid.

    Zero is what volumes hold outside their masks. Every axis gets at least two voxels at the
    coarsest level, which normalisation needs.
    """

    def __init__(self, network: nn.Module, multiple: int, dense: bool) -> None:
        super().__init__()
        self.network, self.multiple, self.dense = network, multiple, dense

    def extra_repr(self) -> str:
        """What the weights do not say."""
        return f"multiple={self.multiple}, dense={self.dense}"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """`(B, C, *shape)` to logits `(B, n_outputs, *shape)`, or `(B, n_outputs)` for classes."""
        shape = images.shape[2:]
        padding: list[int] = []
        for size in reversed(shape):
            target = max(2, -(-size // self.multiple)) * self.multiple
            before = (target - size) // 2
            padding += [before, target - size - before]
        logits: torch.Tensor = self.network(functional.pad(images, padding))
        if not self.dense:
            return logits
        for axis, size in enumerate(shape):
            before = padding[2 * (len(shape) - 1 - axis)]
            if torch.compiler.is_exporting():
                # An export of `narrow` is bound to sizes that are padded as the example's were.
                where = torch.arange(size, device=logits.device) + before
                logits = logits.index_select(2 + axis, where)
            else:
                logits = logits.narrow(2 + axis, before, size)
        return logits


def network_spec(
    config: TrainingConfig, n_channels: int, n_outputs: int, task: Task, ndim: int = 3
) -> NetworkSpec:
    """The network a configuration means for a task.

    Raises:
        TrainingError: the named network does not do this task.
    """
    default = "unet" if task == "segmentation" else "resnet"
    name = default if config.network == "auto" else config.network
    if (name == "unet") != (task == "segmentation"):
        raise TrainingError(
            f"training.network is {name!r}, which does not do {task}: "
            f"use {'unet' if task == 'segmentation' else 'densenet or resnet'}, or auto"
        )
    units = config.residual_units if name == "unet" else 0
    return NetworkSpec(
        name, task, ndim, n_channels, n_outputs, config.channels, config.dropout, units
    )


def build_network(spec: NetworkSpec) -> PaddedNetwork:
    """Build a network with fresh weights from torch's global generator (see `seeding.seeded`)."""
    network = quick_on_a_cpu(NETWORKS[spec.name](spec))
    return PaddedNetwork(network, spec.multiple, dense=spec.task == "segmentation")


def _unet(spec: NetworkSpec) -> nn.Module:
    from monai.networks.nets import UNet

    return UNet(
        spatial_dims=spec.ndim,
        in_channels=spec.n_channels,
        out_channels=spec.n_outputs,
        channels=spec.channels,
        strides=(2,) * (len(spec.channels) - 1),
        norm="instance",
        dropout=spec.dropout,
        num_res_units=spec.residual_units,
    )


def _densenet(spec: NetworkSpec) -> nn.Module:
    from monai.networks.nets import DenseNet

    return DenseNet(
        spatial_dims=spec.ndim,
        in_channels=spec.n_channels,
        out_channels=spec.n_outputs,
        init_features=spec.channels[0],
        growth_rate=max(4, spec.channels[0] // 2),
        block_config=(2,) * (len(spec.channels) - 1),
        dropout_prob=spec.dropout,
    )


def _resnet(spec: NetworkSpec) -> nn.Module:
    from monai.networks.nets import ResNet

    widths = list(spec.channels[:4]) + [spec.channels[-1]] * (4 - len(spec.channels[:4]))
    trunk = ResNet(
        block="basic",
        layers=[1, 1, 1, 1],
        block_inplanes=widths,
        spatial_dims=spec.ndim,
        n_input_channels=spec.n_channels,
        conv1_t_size=3,
        conv1_t_stride=2,
        no_max_pool=True,
        num_classes=spec.n_outputs,
    )
    if spec.dropout:
        trunk.fc = nn.Sequential(nn.Dropout(spec.dropout), trunk.fc)
    return trunk


#: Networks by short name.
NETWORKS: dict[str, Callable[[NetworkSpec], nn.Module]] = {
    "unet": _unet,
    "densenet": _densenet,
    "resnet": _resnet,
}

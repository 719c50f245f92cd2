"""Convolutions of one volume at a time, made quick on a CPU."""

import torch
from torch import nn
from torch.nn import functional


class HalvedConv3d(nn.Conv3d):
    """A convolution that works on one small volume as on a batch of its two halves.

    On a CPU torch takes oneDNN's kernels for a batch of two, but for one volume of few voxels its
    own plain ones, which take twice as long (`use_mkldnn` in ATen/native/Convolution.cpp). The
    halves overlap by what the kernel reaches, so the result is the same but for rounding.
    """

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """`(B, C, *shape)` to `(B, O, *shape)`; see `torch.nn.Conv3d`."""
        # an export is bound to the sizes of its example
        if torch.compiler.is_exporting() or images.shape[0] != 1 or images.device.type != "cpu":
            return super().forward(images)
        reach, stride = self.kernel_size[0], self.stride[0]
        # of plain convolutions the padding is a number a side and axis
        ahead, *beside = (int(side) for side in self.padding)
        depth = (images.shape[2] + 2 * ahead - reach) // stride + 1
        if depth % 2 or self.dilation[0] != 1 or self.groups != 1:
            return super().forward(images)
        span = (depth // 2 - 1) * stride + reach
        padded = functional.pad(images, (0, 0, 0, 0, ahead, ahead))
        halves = torch.cat([padded.narrow(2, k * (depth // 2) * stride, span) for k in range(2)])
        found = functional.conv3d(halves, self.weight, self.bias, self.stride, (0, *beside))
        return torch.cat([found[:1], found[1:]], dim=2)


def quick_for_one(network: nn.Module) -> nn.Module:
    """The same network, its plain convolutions in 3D replaced in place."""
    for module in network.modules():
        plain = type(module) is nn.Conv3d and module.padding_mode == "zeros"
        if plain and not isinstance(module.padding, str):
            module.__class__ = HalvedConv3d
    return network

"""Convolutions of small volumes, made quick and safe on a CPU."""

import torch
from torch import nn
from torch.nn import functional

#: Volumes with fewer voxels along an axis are not convolved in bfloat16.
SAFE_SIZE = 4


class QuickConv3d(nn.Conv3d):
    """A convolution that on a CPU takes the kernel that suits one small volume.

    For one volume of few voxels torch takes its own plain kernels, which take twice as long as
    oneDNN's (`use_mkldnn` in ATen/native/Convolution.cpp). A batch of the volume's two halves gets
    those. The halves overlap by what the kernel reaches, so the result is the same but for
    rounding. In bfloat16 oneDNN's are taken for any batch; but where an axis has one or two voxels,
    the gradient of the weights is wrong there and differs from call to call (torch 2.13, decision
    0020), so volumes that small stay in single precision.
    """

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """`(B, C, *shape)` to `(B, O, *shape)`; see `torch.nn.Conv3d`."""
        # an export is bound to the sizes of its example
        if torch.compiler.is_exporting() or images.device.type != "cpu":
            return super().forward(images)
        if torch.is_autocast_enabled("cpu"):
            if min(images.shape[2:]) >= SAFE_SIZE:
                return super().forward(images)
            with torch.autocast("cpu", enabled=False):
                return super().forward(images.float())
        return self._by_halves(images) if len(images) == 1 else super().forward(images)

    def _by_halves(self, images: torch.Tensor) -> torch.Tensor:
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


def quick_on_a_cpu(network: nn.Module) -> nn.Module:
    """The same network, its plain convolutions in 3D replaced in place."""
    for module in network.modules():
        plain = type(module) is nn.Conv3d and module.padding_mode == "zeros"
        if plain and not isinstance(module.padding, str):
            module.__class__ = QuickConv3d
    return network

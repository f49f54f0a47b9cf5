"""The three networks of MTCNN, with the names of tensors of facenet-pytorch's weight files."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Layout:
    """A network of MTCNN.

    Attributes:
        side: of its input in pixels; P-Net takes any larger one.
        convolutions: channels, side of the kernel, and side of the maximum pooling with stride 2 that follows; 0: none.
        hidden: width of the dense layer after them; 0: the outputs are convolutions, and a map.
        outputs: numbers of values of each output; the first is that of the two classes.
    """

    side: int
    convolutions: tuple[tuple[int, int, int], ...]
    hidden: int
    outputs: tuple[int, ...]


LAYOUTS = {
    "pnet": Layout(12, ((10, 3, 2), (16, 3, 0), (32, 3, 0)), 0, (2, 4)),
    "rnet": Layout(24, ((28, 3, 3), (48, 3, 3), (64, 2, 0)), 128, (2, 4)),
    "onet": Layout(48, ((32, 3, 3), (64, 3, 3), (64, 3, 2), (128, 2, 0)), 256, (2, 4, 10)),
}


class StageNet(nn.Module):
    """A stack of convolutions with PReLU, then a dense layer where the layout has one, then the outputs.

    R-Net and O-Net have 3 x 3 cells before the dense layer.
    """

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout, self.side = layout, layout.side
        channels = 3
        for number, (width, kernel, _) in enumerate(layout.convolutions, start=1):
            self.add_module(f"conv{number}", nn.Conv2d(channels, width, kernel))
            self.add_module(f"prelu{number}", nn.PReLU(width))
            channels = width
        number = len(layout.convolutions) + 1
        if layout.hidden:
            self.add_module(f"dense{number}", nn.Linear(channels * 9, layout.hidden))
            self.add_module(f"prelu{number}", nn.PReLU(layout.hidden))
        self._outputs = []
        for place, values in enumerate(layout.outputs, start=1):
            dense = nn.Linear(layout.hidden, values) if layout.hidden else nn.Conv2d(channels, values, 1)
            self._outputs.append(f"dense{number + 1}_{place}" if layout.hidden else f"conv{number}_{place}")
            self.add_module(self._outputs[-1], dense)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """The score of a face in [0, 1], then the other outputs.

        Args:
            pixels: (B, 3, side, side) in [-1, 1]; P-Net: (B, 3, H, W).

        Returns:
            (B,), (B, 4) and of O-Net (B, 10). Of P-Net, (B, h, w) and (B, 4, h, w): a value for each window of 12
            pixels, every 2 pixels.
        """
        x = pixels
        for number, (_, _, pool) in enumerate(self.layout.convolutions, start=1):
            x = self.get_submodule(f"prelu{number}")(self.get_submodule(f"conv{number}")(x))
            if pool:
                x = F.max_pool2d(x, pool, stride=2, ceil_mode=True)
        if self.layout.hidden:
            number = len(self.layout.convolutions) + 1
            x = x.permute(0, 3, 2, 1).flatten(1)  # columns, then rows, then channels, as the weights were trained
            x = self.get_submodule(f"prelu{number}")(self.get_submodule(f"dense{number}")(x))
        classes, *others = (self.get_submodule(name)(x) for name in self._outputs)
        return torch.softmax(classes, dim=1)[:, 1], *others

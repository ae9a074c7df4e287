"""How different two clips look to a network that was trained to name photographs: LPIPS."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from t2v_mini.data.packages import LPIPS_ALEXNET, fetched, unpickled_arrays

# AlexNet (Krizhevsky et al. 2012), as torchvision has it: channels, kernel, stride, padding.
CONVS = ((64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1))
POOLED = (1, 2)  # convolutions before which the largest of three by three is taken
# From [-1, 1] to colours with mean 0 and deviation 1 on photographs.
MEAN, DEVIATION = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)
LEAST = 32  # rows and columns; with fewer there is nothing left in the last layers


class LPIPS(nn.Module):
    """Learned perceptual distance (Zhang et al. 2018, equation 1), version 0.1, with AlexNet.

    Features of five layers are scaled to length 1 at every place; their squared differences are summed with
    learned weights, and averaged over places. 0 for equal clips; 0.5 and more for clips that look nothing
    alike.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (3, *(width for width, *_ in CONVS))
        self.convs = nn.ModuleList(
            nn.Conv2d(before, width, kernel, stride, padding)
            for before, (width, kernel, stride, padding) in zip(widths, CONVS, strict=False)
        )
        self.heads = nn.ParameterList(torch.full((width,), 1 / width) for width in widths[1:])
        self.register_buffer("mean", torch.tensor(MEAN), persistent=False)
        self.register_buffer("deviation", torch.tensor(DEVIATION), persistent=False)

    def features(self, pictures: Float[Tensor, "N 3 H W"]) -> list[Tensor]:
        """The five layers' features of pictures in [-1, 1], of length 1 at each place."""
        h, found = (pictures - self.mean[:, None, None]) / self.deviation[:, None, None], []
        for number, conv in enumerate(self.convs):
            if number in POOLED:
                h = F.max_pool2d(h, 3, 2)
            h = F.relu(conv(h))
            # The root of exactly 0, where no feature answers, would have no gradient.
            found.append(h / (h.square().sum(1, keepdim=True) + 1e-20).sqrt())
        return found

    def forward(
        self, found: Float[Tensor, "B 3 F H W"], clip: Float[Tensor, "B 3 F H W"]
    ) -> Float[Tensor, "B"]:
        """The mean distance of the frames of each pair of clips in [-1, 1].

        Raises `ValueError` for shapes that differ, and for frames of less than 32 by 32.
        """
        if found.shape != clip.shape or min(clip.shape[3:]) < LEAST:
            raise ValueError(
                f"found and clip must have one shape, with {LEAST} rows and columns or more, "
                f"got {tuple(found.shape)} and {tuple(clip.shape)}"
            )
        pairs = (self.features(x.transpose(1, 2).flatten(0, 1)) for x in (found, clip))
        distance = sum(
            torch.einsum("nchw,c->nhw", (a - b).square(), head).mean((1, 2))
            for a, b, head in zip(*pairs, self.heads, strict=True)
        )
        return distance.unflatten(0, (len(clip), -1)).mean(1)


def load_lpips(device: str | torch.device = "cpu") -> LPIPS:
    """The metric with its published weights, frozen; they are downloaded the first time (64 MB).

    Raises as `fetched` does.
    """
    found = unpickled_arrays(fetched(LPIPS_ALEXNET))
    arrays = {name: torch.from_numpy(array) for name, array in found.items()}
    state = {}
    for i in range(len(CONVS)):
        state[f"convs.{i}.weight"] = arrays[f"AlexNet_0/Conv_{i}/kernel"].permute(3, 2, 0, 1)
        state[f"convs.{i}.bias"] = arrays[f"AlexNet_0/Conv_{i}/bias"]
        state[f"heads.{i}"] = arrays[f"NetLinLayer_{i}/Conv_0/kernel"].flatten()
    metric = LPIPS()
    metric.load_state_dict(state)
    return metric.requires_grad_(False).eval().to(device)

"""Time and memory of video codecs of equal size and compression: `python -m benchmarks.codec --json`.

Ours, with dense and with efficient blocks, against the causal codecs of CogVideoX and Wan 2.1 in diffusers.
Each peer has the same compression, and the width that brings its parameters nearest to ours.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.measuring import PeakMemory, fair_clock, handed_over, interleaved
from experiments.results_file import conditions
from t2v_mini.configs import CODEC, CodecConfig
from t2v_mini.models.vae import VideoVAE

OURS = "ours, dense"


@dataclass
class Arguments:
    """Measure video codecs on this machine."""

    frames: int = 17
    """Frames of a clip, 1 + a multiple of 2."""
    size: int = 32
    """Rows and columns."""
    batch: int = 4
    """Clips at once."""
    widths: tuple[int, ...] = CODEC.model.widths
    """Channels of our levels, dense."""
    repeats: int = 5
    """Measurements; the median is reported, beside the extremes."""
    json: bool = False
    """Print one JSON object instead of text."""
    out: Path | None = None
    """Also write the JSON object to this file."""


@dataclass
class Contestant:
    """A codec as three functions: clip to latent, latent to clip, and clip to a training loss."""

    module: nn.Module
    configuration: dict
    encode: Callable[[Tensor], Tensor]
    decode: Callable[[Tensor], Tensor]

    @property
    def parameters(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self.module.parameters())

    def train(self, x: Tensor) -> None:
        """Forward and backward of a reconstruction."""
        loss = (self.decode(self.encode(x)) - x).abs().mean()
        torch.autograd.grad(loss, list(self.module.parameters()), allow_unused=True)


def ours(config: CodecConfig) -> Contestant:
    """Our codec; its encoder's mean stands for the latent."""
    codec = VideoVAE(config)
    return Contestant(codec, vars(config), lambda x: codec.encode(x).mode(), codec.decode)


def diffusers_codec(module: nn.Module, configuration: dict) -> Contestant:
    """A codec of diffusers, which all share their methods."""
    return Contestant(
        module,
        configuration,
        lambda x: module.encode(x).latent_dist.mode(),
        lambda z: module.decode(z).sample,
    )


def cogvideox(width: int, config: CodecConfig) -> Contestant:
    """The codec of CogVideoX with the compression of ours."""
    from diffusers import AutoencoderKLCogVideoX

    steps = len(config.widths) - 1 + (config.patch == 2)
    settings = {
        "down_block_types": ("CogVideoXDownBlock3D",) * (steps + 1),
        "up_block_types": ("CogVideoXUpBlock3D",) * (steps + 1),
        "block_out_channels": (width,) * steps + (2 * width,),
        "latent_channels": config.latent,
        "layers_per_block": 1,
        "norm_num_groups": 8,
        "temporal_compression_ratio": 2**config.halvings,
    }
    return diffusers_codec(AutoencoderKLCogVideoX(**settings), settings)


def wan(width: int, config: CodecConfig) -> Contestant:
    """The codec of Wan 2.1 with the compression of ours."""
    from diffusers import AutoencoderKLWan

    steps = len(config.widths) - 1
    settings = {
        "base_dim": width,
        "z_dim": config.latent,
        "dim_mult": [2**i for i in range(steps + 1)],
        "num_res_blocks": 1,
        "temperal_downsample": [i >= steps - config.halvings for i in range(steps)],
        "in_channels": config.channels * config.patch**2,
        "out_channels": config.channels * config.patch**2,
        "patch_size": config.patch,
        "latents_mean": [0.0] * config.latent,
        "latents_std": [1.0] * config.latent,
    }
    return diffusers_codec(AutoencoderKLWan(**settings), settings)


def nearest(make: Callable[[int], Contestant], parameters: int) -> Contestant:
    """The contestant of the width, a multiple of 8, whose parameters come nearest."""
    width, best = 8, make(8)
    while best.parameters < parameters:
        width += 8
        wider = make(width)
        if abs(wider.parameters - parameters) > abs(best.parameters - parameters):
            break
        best = wider
    return best


def contestants(arguments: Arguments) -> Iterator[tuple[str, Contestant | str]]:
    """Each codec by its name, or why it is left out."""
    config = replace(CODEC.model, widths=tuple(arguments.widths))
    first = ours(config)
    yield OURS, first
    # An efficient block has fewer weights at equal width; so it may be wider.
    yield (
        "ours, efficient",
        nearest(
            lambda width: ours(replace(config, block="efficient", widths=_scaled(config, width))),
            first.parameters,
        ),
    )
    for name, make in (("diffusers CogVideoX", cogvideox), ("diffusers Wan 2.1", wan)):
        try:
            yield name, nearest(lambda width, make=make: make(width, config), first.parameters)
        except ImportError as error:
            yield name, f"the peer is not installed: {error}"


def _scaled(config: CodecConfig, width: int) -> tuple[int, ...]:
    return tuple(width * n // config.widths[0] for n in config.widths)


def rows_of(arguments: Arguments) -> list[dict]:
    """One row for each codec and pass: seconds, clips a second, peak memory, and our time over theirs."""
    torch.manual_seed(0)
    x = random_clips(arguments.batch, 3, arguments.frames, arguments.size, arguments.size)
    rows, works = [], {}
    for name, made in tqdm(list(contestants(arguments)), desc="codecs", unit="codec"):
        if isinstance(made, str):
            rows.append({"name": name, "left_out": made})
            continue
        z = latent_of(name, made, x)
        passes = {
            "encode": without_gradients(made.encode, x),
            "decode": without_gradients(made.decode, z),
            "training step": _train(made, x),
        }
        for what, work in passes.items():
            with PeakMemory() as memory:
                work()
            row = {"name": name, "pass": what, "parameters": made.parameters, "latent": list(z.shape[1:]),
                   "configuration": made.configuration, "peak_bytes": memory.peak}  # fmt: skip
            rows.append(row)
            works[name, what] = work
    times = interleaved(works, arguments.repeats)
    for row in rows:
        if "pass" not in row:
            continue
        row |= times[row["name"], row["pass"]]
        row["clips_per_second"] = arguments.batch / row["seconds"]
        row["ratio"] = times[OURS, row["pass"]][fair_clock()] / row[fair_clock()]
    return rows


def random_clips(*shape: int) -> Tensor:
    """Clips whose numbers are uniform in [-1, 1]; drawn from PyTorch's global generator."""
    return 2 * torch.rand(shape) - 1


@torch.no_grad()
def latent_of(name: str, made: Contestant, x: Tensor) -> Tensor:
    """The latent of clips; `RuntimeError` unless the codec makes clips of the same size of it."""
    z = made.encode(x)
    back = made.decode(z)
    if back.shape != x.shape:
        raise RuntimeError(f"{name} must give back {tuple(x.shape)}, got {tuple(back.shape)}")
    return z


def without_gradients(function: Callable[[Tensor], Tensor], given: Tensor) -> Callable[[], None]:
    """The work of one call of a function, without gradients."""

    def work() -> None:
        with torch.no_grad():
            function(given)

    return work


def _train(made: Contestant, x: Tensor) -> Callable[[], None]:
    return lambda: made.train(x)


def main(arguments: Arguments) -> None:
    """Measure, print and write."""
    settings = {"clip": [3, arguments.frames, arguments.size, arguments.size], "batch": arguments.batch,
                "dtype": "float32", "compile": False}  # fmt: skip
    result = {"settings": settings, "rows": rows_of(arguments), "conditions": conditions()}
    if handed_over(result, arguments.out, arguments.json):
        return
    for row in result["rows"]:
        if "left_out" in row:
            print(f"{row['name']:20} {row['left_out']}")
            continue
        print(
            f"{row['name']:20} {row['pass']:13} {row['parameters']:10,} parameters "
            f"{row['clips_per_second']:8.1f} clips/s {row['peak_bytes'] / 2**20:8.1f} MiB, "
            f"our dense codec takes {row['ratio']:.2f} of its time"
        )


if __name__ == "__main__":
    main(tyro.cli(Arguments))

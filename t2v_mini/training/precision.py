"""Half precision, where the device computes in it."""

from contextlib import nullcontext

import torch


def has_bf16(device: torch.device) -> bool:
    """Whether a device has instructions for bf16. A CPU without them emulates it, a hundred times slower."""
    if device.type != "cpu":
        return True
    # Neither is public before PyTorch 2.10; on processors other than x86 both say no.
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def autocast(device: torch.device, bf16: bool):
    """Half precision where the settings ask for it and the device has it, float32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16) if bf16 and has_bf16(device) else nullcontext()

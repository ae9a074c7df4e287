"""The palette keeps apart for every reader."""

import itertools

import numpy as np
import pytest

from t2v_mini.world import BACKGROUND, COLORS

# Simulation of full protanopia, deuteranopia and tritanopia on linear RGB (Machado et al. 2009, severity 1).
VISION = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.01182, 0.04294, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.3039],
    ],
}


def oklab(linear: np.ndarray) -> np.ndarray:
    """Perceptual coordinates of linear RGB (Ottosson 2020)."""
    to_lms = [
        [0.4122214708, 0.5363325363, 0.0514459929],
        [0.2119034982, 0.6806995451, 0.1073969566],
        [0.0883024619, 0.2817188376, 0.6299787005],
    ]
    to_lab = [
        [0.2104542553, 0.7936177850, -0.0040720468],
        [1.9779984951, -2.4285922050, 0.4505937099],
        [0.0259040371, 0.7827717662, -0.8086757660],
    ]
    return np.cbrt(np.clip(linear, 0, 1) @ np.transpose(to_lms)) @ np.transpose(to_lab)


@pytest.mark.parametrize("vision", VISION)
def test_colours_keep_apart(vision):
    srgb = np.array([*COLORS.values(), BACKGROUND]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    seen = oklab(linear @ np.transpose(VISION[vision]))
    nearest = min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2))
    assert nearest > 0.1  # about five just noticeable differences


def test_colours_are_in_different_directions_from_the_background():
    """A half covered pixel must not have the colour of another object."""
    direction = np.array([np.subtract(c, BACKGROUND) for c in COLORS.values()], dtype=float)
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    angles = [np.degrees(np.arccos(a @ b)) for a, b in itertools.combinations(direction, 2)]
    assert min(angles) > 13

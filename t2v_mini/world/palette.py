"""The colours of the Moving Shapes world: the only place where they are written down.

The eight colours keep apart for readers with protanopia, deuteranopia and tritanopia too, and
so does each of them from the background; `tests/world/test_palette.py` measures it.
"""

COLORS: dict[str, tuple[int, int, int]] = {
    "red": (0xCA, 0x1E, 0x0B),
    "orange": (0xF9, 0x71, 0x22),
    "yellow": (0xFC, 0xE1, 0x18),
    "green": (0x28, 0x73, 0x5A),
    "cyan": (0x19, 0xD0, 0xFE),
    "blue": (0x0D, 0x6E, 0xFF),
    "pink": (0xFF, 0x93, 0xB7),
    "white": (0xFF, 0xFF, 0xFF),
}
COLOR_NAMES: tuple[str, ...] = tuple(COLORS)
BACKGROUND: tuple[int, int, int] = (0x14, 0x16, 0x1E)

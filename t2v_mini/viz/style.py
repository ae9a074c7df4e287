"""Colours, fonts and sizes that all figures share."""

from typing import TYPE_CHECKING, Any

from t2v_mini.world.palette import COLORS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CYCLE = ("blue", "orange", "green", "red", "cyan", "pink")  # white and yellow vanish on a white page
INK, FAINT = "#1f2430", "#8a8f9c"


def hex_color(name: str) -> str:
    """The hex code of a colour of the world's palette."""
    if name not in COLORS:
        raise ValueError(f"name must be one of {', '.join(COLORS)}, got {name!r}")
    return "#{:02x}{:02x}{:02x}".format(*COLORS[name])


def use_style() -> None:
    """Give matplotlib the book's style: readable, white for print, colours from the palette."""
    import matplotlib

    matplotlib.rcParams.update(
        {
            "figure.figsize": (7.0, 3.6),
            "figure.dpi": 110,
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "savefig.facecolor": "white",
            "savefig.bbox": "tight",
            "font.size": 12,
            "axes.titlesize": 13,
            "axes.titleweight": "bold",
            "axes.titlelocation": "left",
            "axes.edgecolor": FAINT,
            "axes.labelcolor": INK,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": True,
            "axes.axisbelow": True,
            "axes.prop_cycle": matplotlib.cycler(color=[hex_color(name) for name in CYCLE]),
            "grid.color": "#e3e5ea",
            "text.color": INK,
            "xtick.color": INK,
            "ytick.color": INK,
            "lines.linewidth": 2.2,
            "legend.frameon": False,
            "image.interpolation": "nearest",
        }
    )


def new_figure(width: float, height: float, **options: Any) -> "Figure":
    """A figure in inches that a notebook shows once, as a cell's value."""
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(width, height), facecolor="white", **options)
    plt.close(figure)
    return figure

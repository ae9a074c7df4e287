"""Bars with intervals, and tables."""

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from textwrap import fill
from typing import TYPE_CHECKING, Any

from t2v_mini.viz.style import CYCLE, INK, hex_color, new_figure

if TYPE_CHECKING:
    from IPython.display import HTML
    from matplotlib.figure import Figure

TABLE_CSS = """
.t2v-table{overflow-x:auto;margin:.8em 0}
.t2v-table table{border-collapse:collapse;font-size:.92em}
.t2v-table caption{text-align:left;font-weight:600;padding:.2em 0 .5em;caption-side:top;color:inherit}
.t2v-table th,.t2v-table td{padding:.3em .8em;border:0;border-bottom:1px solid #c6cad3;text-align:left}
.t2v-table thead th{border-bottom:2px solid #8a8f9c}
.t2v-table .t2v-number{text-align:right;font-variant-numeric:tabular-nums}
"""


def bar_with_interval(
    values: Mapping[str, tuple[float, float, float]], title: str, xlabel: str, form: str = ".3g"
) -> "Figure":
    """Draw a bar for each label with its interval; `values` maps a label to (value, low, high).

    Numbers are written in `form`, such as ".1%" for shares. Raises `ValueError` when there is none, or one is
    not finite with low <= value <= high.
    """
    if not values:
        raise ValueError("values must hold at least one label, got none")
    for label, entry in values.items():
        if len(entry) != 3 or not all(map(math.isfinite, entry)) or not entry[1] <= entry[0] <= entry[2]:
            raise ValueError(
                f"values[{label!r}] must be (value, low, high), low <= value <= high, got {entry}"
            )
    figure = new_figure(7.0, 1.1 + 0.46 * len(values), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(values))
    means, lows, highs = zip(*values.values(), strict=True)
    axes.barh(places, means, height=0.62, color=hex_color(CYCLE[0]))
    spread = [
        [m - low for m, low in zip(means, lows, strict=True)],
        [h - m for m, h in zip(means, highs, strict=True)],
    ]
    axes.errorbar(means, places, xerr=spread, fmt="none", ecolor=INK, elinewidth=1.6, capsize=4)
    start, stop = min(0.0, *lows), max(0.0, *highs)
    for place, mean, high in zip(places, means, highs, strict=True):
        axes.annotate(
            f"{mean:{form}}", (max(high, 0.0), place), (7, 0), textcoords="offset points", va="center"
        )
    axes.set_xlim(start * 1.15, start + (stop - start or 1.0) * 1.15)
    axes.set_yticks(places, [fill(label, 28) for label in values])
    axes.set_title(title, loc="left", fontweight="bold", parse_math=False)
    axes.set_xlabel(xlabel)
    if form.endswith("%"):
        from matplotlib.ticker import PercentFormatter

        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
    axes.invert_yaxis()
    axes.grid(axis="y", visible=False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    return figure


def table(
    rows: Sequence[Mapping[str, Any]],
    formats: Mapping[str, str | Callable[[Any], str]] | None = None,
    caption: str = "",
) -> "HTML":
    """Show rows as a table; the keys are the column heads and the first column names the row.

    `formats` maps a column to a format such as ".1%", or to a function that gives the text. Raises
    `ValueError` for no rows, rows with different columns, and a format that does not fit.
    """
    from IPython.display import HTML

    formats = formats or {}
    columns = list(rows[0]) if rows else []
    if not columns:
        raise ValueError("rows must hold at least one row with one column, got none")
    for number, row in enumerate(rows):
        if list(row) != columns:
            raise ValueError(f"rows must all have the columns {columns}, got {list(row)} in row {number}")
    if not set(formats) <= set(columns):
        raise ValueError(f"formats must name columns of {columns}, got {list(formats)}")
    numeric = {name for name in columns if all(_is_number(row[name]) for row in rows)}
    style = {name: ' class="t2v-number"' if name in numeric else "" for name in columns}
    body, head = "", "".join(f'<th scope="col"{style[name]}>{escape(name)}</th>' for name in columns)
    for row in rows:
        cells = [escape(_cell(name, row[name], formats.get(name))) for name in columns]
        first = f'<th scope="row"{style[columns[0]]}>{cells[0]}</th>'
        rest = [f"<td{style[n]}>{c}</td>" for n, c in zip(columns[1:], cells[1:], strict=True)]
        body += f"<tr>{first}{''.join(rest)}</tr>"
    label = escape(caption or "Table: " + ", ".join(columns))
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return HTML(
        f'<style>{TABLE_CSS}</style><div class="t2v-table" role="region" tabindex="0" aria-label="{label}">'
        f"<table>{title}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _cell(name: str, value: Any, how: str | Callable[[Any], str] | None) -> str:
    try:
        if how is None:
            return str(value)
        return format(value, how) if isinstance(how, str) else str(how(value))
    except (TypeError, ValueError) as error:
        raise ValueError(f"formats[{name!r}] must fit every value, got {how!r} for {value!r}") from error

"""One look for every figure, clip and table of the book."""

from t2v_mini.viz.charts import bar_with_interval, table
from t2v_mini.viz.clips import check_clips, contact_sheet, player
from t2v_mini.viz.style import hex_color, use_style

__all__ = ["bar_with_interval", "check_clips", "contact_sheet", "hex_color", "player", "table", "use_style"]

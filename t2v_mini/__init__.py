"""Text-to-video generation, built from scratch and checked on a world of moving shapes.

Nothing heavy is imported here. Import what you need, for instance
`from t2v_mini.pipeline import TextToVideo` or `from t2v_mini.world import caption, judge, render`.
"""

__version__ = "0.1.0"

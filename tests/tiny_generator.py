"""The sizes of a generator as small as one can be."""

from t2v_mini.configs import ModelConfig

TINY_GENERATOR = ModelConfig(
    width=24, depth=1, heads=2, stem_width=32, text_width=16, text_heads=2, text_depth=1
)

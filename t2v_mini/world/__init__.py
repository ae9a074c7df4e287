"""Moving Shapes: a world in which a caption is an exact claim about a clip.

Scene --caption--> text;  Scene --render--> video;  judge(video, text) --> a verdict on each fact
"""

from t2v_mini.world.caption import MAX_WORDS, VOCABULARY, caption, normalise, parse, words
from t2v_mini.world.judge import judge, judge_claims, read_facts
from t2v_mini.world.palette import BACKGROUND, COLOR_NAMES, COLORS
from t2v_mini.world.render import render
from t2v_mini.world.sampling import LEVELS, prove, sample_scene, sample_scenes, scene_facts, scene_for
from t2v_mini.world.scene import Scene, Thing, geometry
from t2v_mini.world.splits import SPLITS, is_held_out
from t2v_mini.world.verdict import Fact, Verdict, compare
from t2v_mini.world.vocabulary import CaptionError, Facts, ObjectFacts

__all__ = [
    "BACKGROUND",
    "COLORS",
    "COLOR_NAMES",
    "LEVELS",
    "MAX_WORDS",
    "SPLITS",
    "VOCABULARY",
    "CaptionError",
    "Fact",
    "Facts",
    "ObjectFacts",
    "Scene",
    "Thing",
    "Verdict",
    "caption",
    "compare",
    "geometry",
    "is_held_out",
    "judge",
    "judge_claims",
    "normalise",
    "parse",
    "prove",
    "read_facts",
    "render",
    "sample_scene",
    "sample_scenes",
    "scene_facts",
    "scene_for",
    "words",
]

"""Captions that are refused: each with one line that says what is wrong."""

from itertools import combinations

import pytest

from t2v_mini.world.caption import MAX_WORDS, caption, parse
from t2v_mini.world.vocabulary import CaptionError, Facts, ObjectFacts

BAD = [
    (None, r"must be a string, got NoneType"),
    (b"a red circle", r"must be a string, got bytes"),
    ("", r"is empty"),
    (" . ", r"is empty"),
    ("a red circle " * 40, rf"at most {MAX_WORDS} words and commas, got 120"),
    ("a red crcle moves left", r"unknown word: 'crcle' \(nearest known: circle"),
    ("a purpel dog moves left", r"unknown words: 'purpel', 'dog'; colours are"),
    ("foo bar baz qux a circle", r"unknown words: 'foo'.*'bar'.*'baz'.*, and 1 more"),
    ("a grey circle", r"unknown word: 'grey' \(nearest known: .*green"),
    ("a xylophone", r"unknown word: 'xylophone'; colours are red, .*, shapes are circle, "),
    ("a purple circle", r"unknown word: 'purple'; colours are red, .*, shapes are circle, "),
    ("a 2 circle", r"unknown word: '2'"),
    ("a red \N{LARGE RED CIRCLE}", r"unknown word: '\N{LARGE RED CIRCLE}'"),
    ("a red\ncircle moves left", r"unknown word: 'red\\ncircle' \(nearest known: .*circle"),
    ("a red circle\x00", r"unknown word: 'circle\\x00'"),
    ("a red\tcircle", r"unknown word: 'red\\tcircle'"),
    ("a " + "z" * 10**6, r"unknown word: 'z{24}'"),
    ("two red circles", r"name each object on its own .*'two'"),
    ("red circles move left", r"name each object on its own .*'circles'"),
    ("a red", r"after 'a red' expected a shape \(circle, .*, got the end of the caption"),
    ("a small red moves left", r"after 'a small red' expected a shape .*, got 'moves'"),
    ("moves left", r"at the start expected an object .*, got 'moves'"),
    ("a circle square", r"after 'a circle' expected a verb, a relation, .*, got 'square'"),
    ("a red circle left", r"after 'a red circle' expected a verb, .*, got 'left'"),
    ("a red circle moves", r"after 'a red circle moves' expected a direction .*, got the end"),
    ("a red circle moves above a square", r"expected a direction .*, got 'above'"),
    ("a red circle moves blue", r"expected a direction .*, got 'blue'"),
    ("a red circle turns left", r"after 'a red circle turns' expected a colour .*, got 'left'"),
    ("a red circle is red", r"after 'a red circle is' expected a relation .*, got 'red'"),
    ("a red circle above", r"after 'a red circle above' expected an object .*, got the end"),
    ("a red circle orbits", r"after 'a red circle orbits' expected an object .*, got the end"),
    ("a red circle that", r"after 'a red circle that' expected a verb .*, got the end"),
    ("a red circle grows and", r"after 'red circle grows and' expected an object .*, got the end"),
    ("a red circle grows,", r"after 'red circle grows,' expected an object .*, got the end"),
    ("a red circle grows a blue square", r"after 'a red circle grows' expected ', and', .*, got 'a'"),
    (
        "a red circle moves left and right",
        r"after 'circle moves left and' expected an object .*, got 'right'",
    ),
    ("a circle above a square and grows", r"after 'above a square and' expected an object .*, got 'grows'"),
    ("a circle orbits a square above a triangle", r"after 'circle orbits a square' expected .*, got 'above'"),
    (
        "a red circle moves to the left of a square",
        r"'moves to the left of' mixes a motion and a place: say 'moves left'",
    ),
    ("a red circle moves left of a square", r"say 'moves left' .* 'is to the left of'"),
    ("a red blue circle", r"an object has one color, got 'red' and 'blue'"),
    ("a small large circle", r"an object has one size, got 'small' and 'large'"),
    ("a little red big circle", r"an object has one size, got 'small' and 'large'"),
    (
        "a red circle moves left and moves right",
        r"the red circle has two motions: it moves left and moves right",
    ),
    ("a red circle moves left and grows", r"has two motions: it moves left and grows"),
    ("a circle moves left, and the circle moves up", r"has two motions"),
    ("a circle slowly moves left quickly", r"one speed, got 'slowly' and 'quickly'"),
    ("a circle moves slowly, and the circle moves left fast", r"two speeds: slowly and quickly"),
    ("a circle moves left and stops and turns blue", r"two events, 'stops' and 'turns'"),
    ("a circle stops and moves left", r"say 'moves left' before 'stops'"),
    ("a circle vanishes and moves slowly", r"say 'moves slowly' before 'vanishes'"),
    ("a circle slowly turns blue", r"'slowly' goes with a motion, not with 'turns'"),
    (
        "a circle orbits a square and the circle passes behind the square",
        r"cannot both orbit and pass behind",
    ),
    ("a red circle stays still quickly", r"the red circle cannot do this quickly: it stays still"),
    ("a red circle grows slowly", r"cannot do this slowly: it grows"),
    ("a red circle grows and stops", r"cannot do both: it grows and stops"),
    ("a red circle orbits a square and the circle stops", r"cannot do both: it orbits and stops"),
    ("a red circle turns red", r"cannot turn red: it is red already"),
    ("a red circle and a red square", r"two objects are red .*no two objects share a colour"),
    ("a red circle turns blue above a blue square", r"two objects are blue"),
    ("a circle, a square, a triangle and a red object", r"names 1 to 3 objects, got 4"),
    ("the red circle moves left", r"'the red circle' was not named before"),
    ("a red circle grows above the red square", r"'the red square' was not named before"),
    ("a red circle turns blue and the blue circle grows", r"'the blue circle' was not named before"),
    ("a red circle, a blue circle and the circle grows", r"could be the red circle or the blue circle"),
    ("a circle and the second object grows", r"no second object yet: 1 named so far"),
    ("a circle and the first circle grows", r"after 'circle and the first' expected 'object', got 'circle'"),
    ("a circle and the first", r"after 'circle and the first' expected 'object', got the end"),
    (
        "a red circle and the red circle",
        r"after 'and the red circle' expected a verb, or 'is' .*, got the end",
    ),
    ("a red circle is above the red circle", r"cannot be above itself"),
    ("a red circle orbits the red circle", r"cannot orbit or pass behind itself"),
    ("a circle above a square and the circle is below the square", r"both below another and the opposite"),
    (
        "a circle above a square that is below the circle",
        r"after 'above a square that' expected a verb .*, got 'is'",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD, ids=[repr(text)[:50] for text, _ in BAD])
def test_bad_captions(text, message):
    with pytest.raises(CaptionError, match=message) as caught:
        parse(text)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_facts_that_cannot_be_worded():
    with pytest.raises(CaptionError, match="color must be one of red, .* got 'mauve'"):
        caption(Facts((ObjectFacts("mauve"),)))
    with pytest.raises(CaptionError, match="share a colour"):
        caption(Facts((ObjectFacts("red"), ObjectFacts("red"))))
    full = [ObjectFacts(c, "triangle", "small", "up-left", "quickly", "turns", t)
            for c, t in (("red", "blue"), ("pink", "cyan"), ("green", "white"))]  # fmt: skip
    pairs = list(combinations(range(3), 2))
    many = tuple((i, r, j) for i, j in pairs for r in ("left of", "above", "in front of"))
    with pytest.raises(CaptionError, match=f"take [0-9]+ words, a caption has at most {MAX_WORDS}"):
        caption(Facts(tuple(full), many))


@pytest.mark.parametrize("seed", [-1, 1.5, "1", True])
def test_bad_seed(seed):
    with pytest.raises(ValueError, match="seed must be None or an integer >= 0"):
        caption(Facts((ObjectFacts("red"),)), seed)

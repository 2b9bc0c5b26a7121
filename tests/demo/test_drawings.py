"""The drawings, captions and tags that the demo models stand on."""

import random

import numpy as np
import pytest

from scripts.demo_training.draw import draw, draw_cutout
from scripts.demo_training.figures import (
    CHARACTER_TAGS,
    CHARACTERS,
    CLOSED,
    GENERAL_TAGS,
    Figure,
    Person,
    caption_of,
    is_grey,
    random_figure,
    tags_of,
)

REDHEAD = Person("girl", "red", "long", "blue", "hat", glasses=True, smile=True)


def figures(count: int) -> list[Figure]:
    rng = random.Random("figures of the tests")
    return [random_figure(rng) for _ in range(count)]


def test_the_same_seed_draws_the_same_image() -> None:
    for figure in figures(3):
        first, second, other = (draw(figure, random.Random(seed), (90, 120)) for seed in (1, 1, 2))
        assert (first.mode, first.size) == ("RGB", (90, 120))
        assert first.tobytes() == second.tobytes()
        assert first.tobytes() != other.tobytes()


def test_a_caption_says_what_is_drawn() -> None:
    assert (
        caption_of(Figure((REDHEAD,), "green"))
        == "a girl with long red hair and blue eyes wearing a hat and glasses, smiling, on a green background"
    )
    plain = Person("boy", "black", "short", CLOSED)
    assert caption_of(Figure((plain,), "white")) == "a boy with short black hair and closed eyes on a white background"
    assert (
        caption_of(Figure((REDHEAD, plain), "pink"))
        == "a girl with long red hair and a boy with short black hair on a pink background"
    )


def test_tags_are_spelled_as_boorus_spell_them() -> None:
    expected = "1girl solo red_hair long_hair blue_eyes looking_at_viewer hat glasses smile green_background"
    assert tags_of(Figure((REDHEAD,), "green")) == {*expected.split(), "simple_background", "upper_body"}
    happy = Person("boy", "black", "short", CLOSED)
    assert {"closed_eyes", "^_^", "2boys", "multiple_boys"} <= tags_of(Figure((happy, happy), "white"))
    assert "solo" not in tags_of(Figure((happy, happy), "white"))
    assert "aka_(sdprep)" in tags_of(Figure((CHARACTERS["aka_(sdprep)"],), "grey"))


def test_every_tag_is_known_and_every_known_tag_occurs() -> None:
    seen = set().union(*(tags_of(figure) for figure in figures(2000)))
    assert seen == {*GENERAL_TAGS, *CHARACTER_TAGS}


def test_captions_and_tags_agree() -> None:
    for figure in figures(500):
        caption, tags = caption_of(figure), tags_of(figure)
        assert caption == caption.lower()
        assert not caption.startswith("an image")
        assert f"{figure.background} background" in caption
        assert f"{figure.background}_background" in tags
        for person in figure.people:
            assert f"{person.hair_length} {person.hair_colour} hair" in caption
            assert {f"{person.hair_length}_hair", f"{person.hair_colour}_hair"} <= tags
        if "solo" in tags:
            assert ("a hat" in caption, "glasses" in caption, "smiling" in caption) == (
                "hat" in tags,
                "glasses" in tags,
                "smile" in tags,
            )


def test_a_cutout_is_transparent_around_the_people() -> None:
    cutout = draw_cutout(Figure((REDHEAD,), "white"), random.Random(0), (120, 120))
    alpha = np.asarray(cutout)[..., 3]
    assert cutout.mode == "RGBA"
    assert (alpha[0, 0], alpha[60, 60]) == (0, 255)


@pytest.mark.parametrize(("background", "grey"), [("black", True), ("white", True), ("green", False)])
def test_only_an_image_without_colour_words_may_be_shown_in_greys(background: str, grey: bool) -> None:
    plain = Person("girl", "grey", "long", "black")
    assert is_grey(Figure((plain,), background)) is grey
    assert not is_grey(Figure((REDHEAD,), background))

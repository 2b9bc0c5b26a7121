"""Lists about tags as a run takes them, and thresholds that the makers of a model recommend."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from sdprep.config import RunOptions, TagSettings
from sdprep.demo import IMAGES
from sdprep.errors import UsageError
from sdprep.files import configs_folder
from sdprep.models.registry.registry import load
from sdprep.report import NullListener, RunReport
from sdprep.rules.labels import TagRules
from sdprep.tasks.annotation.tag_lists import with_card_thresholds
from sdprep.tasks.settings import stating
from sdprep.tasks.tag import tag

USUAL = ["1girl", "solo", "smile", "long_hair"]


class Listening(NullListener):
    """A listener that remembers."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def note(self, message: str) -> None:
        self.heard.append(message)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one image: of a girl with long red hair who smiles and is known by name."""
    place = tmp_path / "imgs"
    place.mkdir()
    shutil.copy(IMAGES / "aka.jpg", place)
    return place


def run(folder: Path, *, explicit: frozenset[str] = frozenset(), **settings: Any) -> RunReport:
    rules = {name: settings.pop(name) for name in list(settings) if name in TagRules.__dataclass_fields__}
    made = TagSettings(**{"model": "demo-tag", "rules": TagRules(**rules), "run": RunOptions(workers=0), **settings})
    return tag(folder, made, layers=stating(made, explicit))


def tags(folder: Path, **settings: Any) -> list[str]:
    """The tags that a run writes into a folder without any."""
    (folder / "aka.txt").unlink(missing_ok=True)
    run(folder, **settings)
    return (folder / "aka.txt").read_text(encoding="utf-8").strip().split(", ")


def listed(folder: Path, text: str) -> Path:
    path = folder.parent / "list.csv"
    path.write_text(text, encoding="utf-8")
    return path


def with_card(tmp_path: Path, threshold: str) -> str:
    """The demo tagger as if its makers recommended a threshold."""
    text = (configs_folder("models") / "demo-tag.toml").read_text(encoding="utf-8")
    path = tmp_path / "carded.toml"
    path.write_text(f"threshold = {threshold}\n{text}", encoding="utf-8")
    return str(path)


def test_an_alias_of_a_file_is_written_by_its_canonical_name(folder: Path) -> None:
    found = tags(folder, aliases=listed(folder, "1girl,woman\n"))
    assert ("woman" in found, "1girl" in found) == (True, False)


def test_an_implied_tag_is_dropped_or_added_as_one_chooses(folder: Path) -> None:
    implications = listed(folder, "antecedent,consequent\nlong_hair,hair\nlong_hair,smile\n")
    dropped, added = (set(tags(folder, implications=implications, implied=choice)) for choice in ("drop", "add"))
    assert added - dropped == {"hair", "smile"}


def test_a_threshold_of_a_single_tag_comes_from_a_file(folder: Path) -> None:
    assert set(tags(folder)) - set(tags(folder, tag_thresholds=str(listed(folder, "smile,1.5\n")))) == {"smile"}


def test_an_alias_is_followed_by_implications(folder: Path) -> None:
    aliases = listed(folder, "1girl,woman\n")
    implications = folder.parent / "implications.csv"
    implications.write_text("woman,smile\n")
    found = tags(folder, aliases=aliases, implications=implications)
    assert ("woman" in found, "smile" in found) == (True, False)


def test_a_list_that_has_changed_rewrites_where_it_is_stated(folder: Path) -> None:
    path = listed(folder, "1girl,woman\n")
    run(folder, aliases=path, explicit=frozenset({"aliases"}))
    listed(folder, "1girl,lady\n")
    assert run(folder, aliases=path, explicit=frozenset({"aliases"})).written == 1


def test_a_list_that_is_the_same_rewrites_nothing(folder: Path) -> None:
    path = listed(folder, "1girl,woman\n")
    run(folder, aliases=path, explicit=frozenset({"aliases"}))
    assert run(folder, aliases=path, explicit=frozenset({"aliases"})).current == 1


@pytest.mark.parametrize("name", ["aliases", "implications"])
@pytest.mark.parametrize(
    ("text", "fault"), [("a\n", "line 1: expected antecedent,consequent"), ("a,b\nb,a\n", "itself")]
)
def test_a_list_that_cannot_be_read_is_named_before_anything_is_done(
    folder: Path, name: str, text: str, fault: str
) -> None:
    with pytest.raises(UsageError, match=rf"list\.csv: .*{fault}"):
        run(folder, **{name: listed(folder, text)})
    assert not (folder / "aka.txt").exists()


def test_a_list_that_is_no_text_is_refused(folder: Path) -> None:
    (folder.parent / "list.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"list\.csv is not UTF-8"):
        run(folder, aliases=folder.parent / "list.csv")


def test_a_list_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        run(folder, tag_thresholds=str(folder / "none.csv"))


def test_thresholds_of_the_model_are_refused_where_it_states_none(folder: Path) -> None:
    with pytest.raises(UsageError, match="demo-tag states no thresholds of single tags"):
        run(folder, tag_thresholds="model")


def test_the_threshold_of_the_card_is_taken_and_said(folder: Path, tmp_path: Path) -> None:
    listener = Listening()
    settings = TagSettings(
        model=with_card(tmp_path, "0.99999"), rules=TagRules(threshold="auto"), run=RunOptions(workers=0)
    )
    tag(folder, settings, listener=listener)
    strict = (folder / "aka.txt").read_text(encoding="utf-8").strip().split(", ")
    assert listener.heard == ["--threshold auto, from the card of demo-tag: threshold 0.99999"]
    assert strict == tags(folder, threshold=0.99999) != tags(folder)


PER_CATEGORY = "{ general = 0.99999, character = 0.5 }"


def test_a_card_may_recommend_a_threshold_for_each_category(folder: Path, tmp_path: Path) -> None:
    strict = tags(folder, general_threshold=0.99999)
    assert tags(folder, model=with_card(tmp_path, PER_CATEGORY), threshold="auto") == strict != tags(folder)


def test_a_threshold_that_was_given_wins_over_the_card(folder: Path, tmp_path: Path) -> None:
    found = tags(folder, model=with_card(tmp_path, PER_CATEGORY), threshold="auto", general_threshold=0.35)
    assert found == tags(folder)


def test_a_number_that_is_stated_takes_back_what_the_card_recommended(folder: Path, tmp_path: Path) -> None:
    model = with_card(tmp_path, PER_CATEGORY)
    usual = tags(folder)
    tags(folder, model=model, threshold="auto")
    run(folder, model=model, threshold=0.35, explicit=frozenset({"threshold"}))
    assert (folder / "aka.txt").read_text(encoding="utf-8").strip().split(", ") == usual


def test_another_recommendation_rewrites_where_auto_is_stated_again(folder: Path, tmp_path: Path) -> None:
    run(folder, model=with_card(tmp_path, "0.99999"), threshold="auto")
    model, explicit = with_card(tmp_path, "0.35"), frozenset({"threshold"})
    assert run(folder, model=model, threshold="auto", explicit=explicit).written == 1


@pytest.mark.parametrize("path", sorted(configs_folder("models").glob("*.toml")), ids=lambda path: path.stem)
def test_the_card_of_every_tagger_makes_rules_or_says_that_it_has_none(path: Path) -> None:
    spec = load(path)
    if spec.task == "tag" and spec.threshold is None:
        with pytest.raises(UsageError, match="no threshold is known"):
            with_card_thresholds(TagRules(threshold="auto"), spec)
    elif spec.task == "tag":
        TagSettings(rules=with_card_thresholds(TagRules(threshold="auto"), spec))


@pytest.mark.parametrize("option", ["ratings", "quality"])
def test_a_place_for_tags_that_the_model_lacks_is_refused(folder: Path, tmp_path: Path, option: str) -> None:
    shutil.copytree(IMAGES.parent / "models" / "demo-tag", tmp_path / "model")
    text = (configs_folder("models") / "demo-tag.toml").read_text(encoding="utf-8")
    text = text.replace('bundled = "demo-tag"', 'path = "model"').replace("rating = 9", "score = 9")
    (tmp_path / "own.toml").write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=f"--{option}: demo-tag has no such category"):
        run(folder, model=str(tmp_path / "own.toml"), **{option: "first"})


def test_a_threshold_of_a_tag_that_the_model_lacks_is_said(folder: Path) -> None:
    listener = Listening()
    path = listed(folder, "unicorn,0.5\nsmile,0.4\n")
    tag(folder, TagSettings(model="demo-tag", tag_thresholds=str(path), run=RunOptions(workers=0)), listener=listener)
    assert listener.heard == ["--tag-thresholds: demo-tag has no tag called unicorn"]


def test_the_thresholds_of_a_card_rewrite_where_auto_is_stated(folder: Path, tmp_path: Path) -> None:
    model = with_card(tmp_path, PER_CATEGORY)
    run(folder, model=model)
    assert run(folder, model=model, threshold="auto", explicit=frozenset({"threshold"})).written == 1


def test_the_label_file_of_a_model_may_bring_thresholds_of_its_own(folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "model"
    shutil.copytree(IMAGES.parent / "models" / "demo-tag", place)
    rows = (place / "selected_tags.csv").read_text(encoding="utf-8").splitlines()
    with_thresholds = [f"{rows[0]},best_threshold", *(f"{row},0.35" for row in rows[1:])]
    (place / "selected_tags.csv").write_text("\n".join(with_thresholds), encoding="utf-8")
    text = (configs_folder("models") / "demo-tag.toml").read_text(encoding="utf-8")
    text = text.replace('bundled = "demo-tag"', 'path = "model"') + '\nthresholds = "best_threshold"\n'
    (tmp_path / "own.toml").write_text(text, encoding="utf-8")
    own = tags(folder, model=str(tmp_path / "own.toml"), tag_thresholds="model", threshold=1.5)
    assert own == tags(folder)


def test_a_model_without_a_recommended_threshold_has_no_auto(folder: Path) -> None:
    with pytest.raises(UsageError, match="--threshold auto: no threshold is known"):
        run(folder, threshold="auto")


@pytest.mark.parametrize(
    ("settings", "option"),
    [({"artist_threshold": 0.5}, "--artist-threshold"), ({"category_threshold": (("species", 0.5),)}, "species")],
)
def test_a_threshold_for_a_category_that_the_model_lacks_is_refused(
    folder: Path, settings: dict[str, Any], option: str
) -> None:
    with pytest.raises(UsageError, match=f"{option}: demo-tag has no such category; it has general, character, rating"):
        run(folder, **settings)


@pytest.mark.parametrize("category", ["rating", "quality"])
def test_what_is_chosen_as_the_best_has_no_threshold(category: str) -> None:
    with pytest.raises(UsageError, match=f"the category {category} takes no threshold"):
        TagSettings(rules=TagRules(category_threshold=((category, 0.5),)))


def test_the_widest_gap_is_a_threshold(folder: Path) -> None:
    assert tags(folder, threshold="mcut")


@pytest.mark.parametrize("name", ["tag_thresholds", "aliases", "implications"])
def test_a_list_of_many_gigabytes_is_refused_unread(folder: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / "list.csv"
    with path.open("wb") as stream:
        stream.truncate(6 << 30)
    with pytest.raises(UsageError, match=r"list\.csv: it is larger than 16,777,216 bytes"):
        run(folder, **{name: str(path) if name == "tag_thresholds" else path})

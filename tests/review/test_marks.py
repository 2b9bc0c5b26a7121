"""Stars, rejecting, and what a trainer makes of the images."""

import pytest

from sdprep.images.source import ImageSource
from sdprep.tasks.history.undo import undo
from tests.review.conftest import NAMES


def files(folder):
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and ".sdprep" not in path.parts
    }


def test_stars_stay_for_the_next_session_and_follow_the_image(folder, open_page):
    (folder / "a.png").write_bytes((folder / "a.png").read_bytes() + b"\0")
    page = open_page()

    page.post("api/mark", numbers=[0], stars=4)

    assert page.row(0)["stars"] == 4
    assert page.row(1)["stars"] == 0
    assert open_page().row(0)["stars"] == 4
    page.post("api/mark", numbers=[0], stars=0)
    assert page.row(0)["stars"] == 0


@pytest.mark.parametrize("stars", [-1, 6])
def test_there_are_no_other_stars(page, stars):
    assert page.post("api/mark", numbers=[0], stars=stars).status_code == 422


def test_a_rejected_image_leaves_the_dataset_with_its_sidecars_and_undo_brings_all_back(page, folder):
    first = files(folder)

    done = page.post("api/mark", numbers=[0], is_rejected=True).json()

    assert (done["written"], done["left"]) == (6, [])
    assert files(folder) == {
        (f"_rejected/{name}" if name.startswith("a.") else name): data for name, data in first.items()
    }
    assert [item.rel for item in ImageSource(folder).items()] == ["b.png", "c.png", "d.png"]
    undo(folder)
    assert files(folder) == first


def test_the_page_shows_a_rejected_image_under_its_number_and_takes_it_back(page, folder):
    first = files(folder)
    page.post("api/mark", numbers=[0], stars=3)

    run = page.post("api/mark", numbers=[0], is_rejected=True).json()["run"]

    row = page.row(0)
    assert (row["is_rejected"], row["path"], row["stars"]) == (True, "_rejected/a.png", 3)
    assert row["tags"]["list"] == ["1girl", "hat"]
    assert page.get("thumb/0").status_code == 200
    page.post("api/undo", run=run)
    assert page.row(0)["is_rejected"] is False
    page.post("api/mark", numbers=[0], is_rejected=True)
    page.post("api/mark", numbers=[0], is_rejected=False)
    assert files(folder) == first
    assert page.post("api/mark", numbers=[0], is_rejected=False).json()["run"] is None


def test_an_image_is_not_moved_over_another(page, folder):
    (folder / "_rejected").mkdir()
    (folder / "_rejected" / "a.png").write_bytes(b"mine")
    first = files(folder)

    done = page.post("api/mark", numbers=[0, 1], is_rejected=True).json()

    assert [each["path"] for each in done["left"]] == ["a.png"]
    assert done["written"] == 4
    undo(folder)
    assert files(folder) == first


def test_what_a_session_rejected_comes_back_with_its_undo(page, folder):
    first = files(folder)
    page.put(0, "tags", "1girl")
    page.post("api/mark", numbers=list(range(len(NAMES))), is_rejected=True)

    assert undo(folder, page.review.session).failed == 0
    assert files(folder) == first


def test_findings_name_the_images_that_they_are_about(page):
    found = {each["code"]: each for each in page.get("api/findings", target="onetrainer").json()["findings"]}

    assert found["no_text"]["numbers"] == [3]
    assert found["no_text"]["message"]
    assert page.get("api/findings", target="nobody").status_code == 422


def test_a_crop_has_the_bucket_and_the_part_that_a_trainer_uses(page):
    row, found = page.row(0), page.get("api/crop/0", resolution=512).json()

    x, y, width, height = found["crop"]
    assert 0 <= x <= x + width <= row["width"]
    assert 0 <= y <= y + height <= row["height"]
    assert abs(width / height - found["bucket"][0] / found["bucket"][1]) < 0.02


@pytest.mark.parametrize(("resolution", "status"), [("abc", 400), ("0", 422), ("1024,x", 400), ("99999", 422)])
def test_a_resolution_that_makes_no_sense_is_refused(page, resolution, status):
    assert page.get("api/crop/0", resolution=resolution).status_code == status

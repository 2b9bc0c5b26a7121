"""What each target finds in the folder of an export, read by plain parsers."""

import io
import json
import os
import sys
import tarfile
from pathlib import Path
from typing import Any, get_args

import pytest

from sdprep.cli.commands.export import TARGETS as OFFERED
from sdprep.config import PathOptions, RunOptions, TagSettings
from sdprep.errors import MissingExtra, MissingSidecars, NoSidecars, UsageError
from sdprep.report import CancelToken, NullListener, RunReport
from sdprep.tasks.exchange import files
from sdprep.tasks.exchange.export import export
from sdprep.tasks.exchange.settings import ExportSettings
from sdprep.tasks.settings import Layers, Statement
from sdprep.tasks.tag import tag
from sdprep.texts.exchange.targets import TARGETS, TargetName
from tests.tasks.exchange.conftest import TEXTS, files_in, write_dataset

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib


class Ear(NullListener):
    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, message: str) -> None:
        self.notes.append(message)


def exported(imgs: Path, target: TargetName, **options: Any) -> Path:
    out = imgs.parent / target
    assert run(imgs, out, target, **options).exit_code == 0
    return out


def run(imgs: Path, out: Path, target: TargetName, **options: Any) -> RunReport:
    return export(imgs, ExportSettings(target=target, output=out, **options))


def read_json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


def read_lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def read_toml(path: Path) -> Any:
    return tomllib.loads(path.read_text("utf-8"))


def test_every_target_is_offered() -> None:
    assert tuple(TARGETS) == get_args(TargetName) == OFFERED


# sd-scripts


@pytest.mark.parametrize("target", ["sd-scripts-0.10", "sd-scripts"])
def test_sd_scripts_get_metadata_with_absolute_keys_and_sizes(imgs: Path, target: TargetName) -> None:
    out = exported(imgs, target)
    assert read_json(out / "metadata.json") == {
        str(imgs / "5_cat/c.webp"): {"tags": 'cat, "quoted", back\\slash', "image_size": [16, 12]},
        str(imgs / "a.jpg"): {"caption": "a girl", "tags": "1girl, solo", "image_size": [16, 12]},
        str(imgs / "sub/näme.jpg"): {"caption": "日本語 🎨", "image_size": [16, 12]},
    }


def test_versions_up_to_0_9_get_no_sizes_since_they_would_take_them_for_those_of_buckets(imgs: Path) -> None:
    entries = read_json(exported(imgs, "sd-scripts-0.9") / "metadata.json")
    assert entries[str(imgs / "a.jpg")] == {"caption": "a girl", "tags": "1girl, solo"}


def test_several_captions_are_a_subset_of_their_own_in_which_a_line_is_drawn(imgs: Path) -> None:
    out = exported(imgs, "sd-scripts", repeats=3, resolution=768)
    several = out / "metadata-several-captions.json"
    assert list(read_json(several)) == [str(imgs / "b.PNG")]
    [dataset] = read_toml(out / "dataset.toml")["datasets"]
    assert dataset["resolution"] == 768
    assert dataset["subsets"] == [
        {"metadata_file": str(out / "metadata.json"), "num_repeats": 3},
        {"metadata_file": str(several), "num_repeats": 3, "enable_wildcard": True},
    ]


def test_tags_in_lines_are_one_line_since_only_the_first_would_train(tmp_path: Path) -> None:
    imgs = write_dataset(tmp_path / "imgs", {"a.jpg": ("a girl", "1girl\nsolo")})
    [entry] = read_json(exported(imgs, "sd-scripts") / "metadata.json").values()
    assert entry["tags"] == "1girl, solo"


def test_json_lines_name_each_image(imgs: Path) -> None:
    out = exported(imgs, "sd-scripts", format="jsonl", text="tags")
    assert read_lines(out / "metadata.jsonl")[1] == {
        "image_path": str(imgs / "a.jpg"),
        "tags": "1girl, solo",
        "image_size": [16, 12],
    }


def test_metadata_names_the_images_of_the_export_if_they_are_in_it(imgs: Path) -> None:
    out = exported(imgs, "sd-scripts", images="link")
    assert str(out / "images" / "a.jpg") in read_json(out / "metadata.json")
    assert (out / "images" / "a.jpg").samefile(imgs / "a.jpg")


def test_folders_for_dreambooth_have_their_repeats_in_their_names(imgs: Path) -> None:
    out = exported(imgs, "dreambooth")
    assert (out / "1_images" / "a.txt").read_text() == "a girl, 1girl, solo\n"
    assert (out / "1_images" / "b.txt").read_text() == "one, 1girl\ntwo, 1girl\n"
    assert (out / "5_cat" / "c.webp").exists()
    assert (out / "1_sub" / "näme.txt").read_text("utf-8") == "日本語 🎨\n"
    [dataset] = read_toml(out / "dataset.toml")["datasets"]
    assert dataset["subsets"][0] == {
        "image_dir": str(out / "5_cat"), "class_tokens": "cat", "num_repeats": 5, "caption_extension": ".txt",
    }  # fmt: skip


def test_stated_repeats_and_extension_count_for_every_folder(imgs: Path) -> None:
    out = exported(imgs, "dreambooth", repeats=10, extension="caption")
    assert {path.name for path in out.iterdir()} == {"10_images", "10_cat", "10_sub", "dataset.toml"}
    assert (out / "10_cat" / "c.caption").exists()


# Other trainers


def test_onetrainer_gets_a_line_per_caption_and_the_concept(imgs: Path) -> None:
    out = exported(imgs, "onetrainer", repeats=2)
    assert (out / "images" / "b.txt").read_text() == "one, 1girl\ntwo, 1girl\n"
    [concept] = read_json(out / "concepts.json")
    assert (concept["path"], concept["include_subdirectories"]) == (str(out / "images"), True)
    assert (concept["balancing"], concept["balancing_strategy"]) == (2.0, "REPEATS")
    assert concept["text"]["prompt_source"] == "sample"


def test_simpletuner_gets_a_table_with_sizes_and_the_backends_that_read_it(imgs: Path) -> None:
    out = exported(imgs, "simpletuner", repeats=3)
    images, texts = read_json(out / "multidatabackend.json")
    assert images["parquet"]["path"] == str(out / "metadata.jsonl")
    # SimpleTuner counts the passes after the first one.
    assert (images["instance_data_dir"], images["repeats"]) == (str(out / "images"), 2)
    assert (texts["dataset_type"], texts["default"]) == ("text_embeds", True)
    assert read_lines(out / "metadata.jsonl")[0] == {
        "file_name": "a.jpg", "caption": ["a girl"], "width": 16, "height": 12,
    }  # fmt: skip


def test_simpletuner_gets_texts_if_no_image_has_several_captions(tmp_path: Path) -> None:
    imgs = write_dataset(tmp_path / "imgs", {"a.jpg": ("a girl", None)})
    assert read_lines(exported(imgs, "simpletuner") / "metadata.jsonl")[0]["caption"] == "a girl"


def test_ai_toolkit_gets_text_files_and_the_block_of_its_dataset(imgs: Path) -> None:
    out = exported(imgs, "ai-toolkit", text="both")
    assert (out / "images" / "a.txt").read_text() == "a girl, 1girl, solo\n"
    block = (out / "dataset.yaml").read_text("utf-8").splitlines()
    # A text in quotes is the same in YAML and JSON.
    assert json.loads(block[1].partition(": ")[2]) == str(out / "images")
    assert block[0] == "datasets:"
    assert block[4] == "    resolution: [1024]"


def test_diffusion_pipe_gets_lists_of_captions_in_each_folder(imgs: Path) -> None:
    out = exported(imgs, "diffusion-pipe", repeats=2)
    assert read_json(out / "images" / "captions.json") == {"a.jpg": ["a girl"], "b.PNG": ["one", "two"]}
    assert read_json(out / "images" / "sub" / "captions.json") == {"näme.jpg": ["日本語 🎨"]}
    table = read_toml(out / "dataset.toml")
    assert table["resolutions"] == [1024]
    assert table["directory"] == [
        {"path": str(out / "images"), "num_repeats": 2},
        {"path": str(out / "images" / "sub"), "num_repeats": 2},
    ]
    # Every other file beside the images would be taken for one.
    assert {path.name for path in (out / "images").iterdir()} == {"a.jpg", "b.PNG", "sub", "captions.json"}


# Tables


def test_imagefolder_has_its_table_beside_the_images(imgs: Path) -> None:
    out = exported(imgs, "imagefolder")
    rows = {row["file_name"]: row for row in read_lines(out / "train" / "metadata.jsonl")}
    assert all((out / "train" / name).is_file() for name in rows)
    assert rows["a.jpg"] == {
        "file_name": "a.jpg", "text": "a girl, 1girl, solo", "caption": "a girl", "tags": "1girl, solo",
        "width": 16, "height": 12,
    }  # fmt: skip
    assert rows["sub/näme.jpg"]["tags"] is None


def test_the_columns_of_a_table_stay_whatever_trains(imgs: Path) -> None:
    row = read_lines(exported(imgs, "imagefolder", text="tags") / "train" / "metadata.jsonl")[1]
    assert (row["text"], row["caption"], row["tags"]) == ("1girl, solo", "a girl", "1girl, solo")


def test_webdataset_has_tars_with_an_image_its_text_and_its_row(imgs: Path) -> None:
    out = exported(imgs, "webdataset", per_shard=3)
    assert sorted(path.name for path in out.iterdir()) == ["00000.tar", "00001.tar"]
    with tarfile.open(out / "00000.tar") as tar:
        members = {member.name: tar.extractfile(member) for member in tar}
        contents = {name: file.read() for name, file in members.items() if file}
    assert list(contents)[3:6] == ["0000000001.jpg", "0000000001.txt", "0000000001.json"]
    assert contents["0000000001.jpg"] == (imgs / "a.jpg").read_bytes()
    assert contents["0000000001.txt"] == b"a girl, 1girl, solo"
    assert json.loads(contents["0000000001.json"])["file_name"] == "a.jpg"


def test_tars_have_whole_records_and_no_times(imgs: Path) -> None:
    data = (exported(imgs, "webdataset") / "00000.tar").read_bytes()
    assert len(data) % tarfile.RECORDSIZE == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert {member.mtime for member in tar} == {0}


def test_parquet_has_the_path_of_each_image(imgs: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow.parquet")
    rows = pyarrow.read_table(exported(imgs, "parquet") / "metadata.parquet").to_pylist()
    assert rows[1]["path"] == str(imgs / "a.jpg")
    assert rows[1]["text"] == "a girl, 1girl, solo"
    assert (rows[0]["caption"], rows[3]["tags"]) == (None, None)


@pytest.mark.parametrize("options", [{"target": "parquet"}, {"target": "simpletuner", "format": "parquet"}])
def test_without_pyarrow_the_command_that_installs_it_is_named(
    imgs: Path, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"pyarrow is not installed\. Install it with: .*parquet") as caught:
        run(imgs, imgs.parent / "out", **options)
    assert caught.value.exit_code == 5
    assert not (imgs.parent / "out").exists()


# All targets


@pytest.mark.parametrize("target", TARGETS)
def test_the_same_dataset_gives_the_same_bytes(imgs: Path, target: TargetName) -> None:
    out = exported(imgs, target)
    before = files_in(out)
    run(imgs, out, target, overwrite=True)
    assert files_in(out) == before
    assert before


@pytest.mark.parametrize("target", TARGETS)
def test_the_dataset_is_only_read(imgs: Path, target: TargetName) -> None:
    before = files_in(imgs)
    exported(imgs, target)
    assert files_in(imgs) == before
    assert not (imgs / ".sdprep").exists()


@pytest.mark.parametrize("target", TARGETS)
def test_an_image_without_a_text_is_left_out_and_named(imgs: Path, target: TargetName) -> None:
    report = run(imgs, imgs.parent / "out", target, text="both")
    assert (report.found, report.written, report.kept_paths) == (len(TEXTS), 4, ["bare.png"])


def test_an_image_without_a_text_may_have_an_empty_one(imgs: Path) -> None:
    out = exported(imgs, "dreambooth", missing="empty")
    # A trainer that finds 0 bytes stops.
    assert (out / "1_images" / "bare.txt").read_bytes() == b"\n"


def test_every_image_may_be_required_to_have_a_text(imgs: Path) -> None:
    with pytest.raises(MissingSidecars, match=r"1 of 5 images lack a caption file or a tag file: bare\.png"):
        run(imgs, imgs.parent / "out", "dreambooth", missing="error")
    assert not (imgs.parent / "out").exists()


def test_a_dataset_without_the_wanted_texts_is_not_exported(tmp_path: Path) -> None:
    imgs = write_dataset(tmp_path / "imgs", {"a.jpg": (None, "1girl")})
    with pytest.raises(NoSidecars, match="no image has a caption file; --text tags exports tags"):
        run(imgs, tmp_path / "out", "ai-toolkit")


def test_a_dry_run_writes_nothing(imgs: Path) -> None:
    report = run(imgs, imgs.parent / "out", "dreambooth", dry_run=True)
    assert (report.written, report.remaining) == (0, 4)
    assert not (imgs.parent / "out").exists()


def test_images_whose_texts_would_have_one_name_fail(tmp_path: Path) -> None:
    imgs = write_dataset(tmp_path / "imgs", {"a.jpg": ("one", None)})
    (imgs / "a.png").write_bytes((imgs / "a.jpg").read_bytes())
    (imgs / "a.jpg.caption").write_text("one")
    (imgs / "a.png.caption").write_text("two")
    full = PathOptions(sidecar_name="full")
    assert [each["code"] for each in run(imgs, tmp_path / "1", "dreambooth", paths=full).failures] == [
        "stem_collision", "stem_collision",
    ]  # fmt: skip
    assert run(imgs, tmp_path / "2", "sd-scripts", paths=full).written == 2


def test_an_image_that_cannot_be_read_fails_and_the_others_are_exported(imgs: Path) -> None:
    (imgs / "a.jpg").write_bytes(b"no image")
    report = run(imgs, imgs.parent / "out", "onetrainer")
    assert (report.written, report.failed, report.exit_code) == (3, 1, 3)


def test_sidecars_are_those_that_their_options_name(tmp_path: Path) -> None:
    imgs = write_dataset(tmp_path / "imgs", {"a.jpg": ("one", None)})
    (imgs / "a.caption").rename(imgs / "a.cap")
    out = exported(imgs, "ai-toolkit", caption_extension=".cap")
    assert (out / "images" / "a.txt").read_text() == "one\n"


# The folder of an export


def test_a_folder_with_files_is_left_alone(imgs: Path) -> None:
    out = imgs.parent / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty; give a new folder, or --overwrite"):
        run(imgs, out, "dreambooth")


def test_other_files_stay_and_are_named(imgs: Path) -> None:
    out, ear = imgs.parent / "out", Ear()
    run(imgs, out, "onetrainer")
    (imgs / "a.jpg").unlink()
    export(imgs, ExportSettings(target="onetrainer", output=out, overwrite=True), listener=ear)
    assert f"2 other files in {out} stay: images/a.jpg, images/a.txt" in ear.notes


@pytest.mark.parametrize("place", ["imgs", "imgs/out", "."])
def test_an_export_and_its_dataset_are_apart(imgs: Path, place: str) -> None:
    with pytest.raises(UsageError, match="are inside each other; an export needs a folder of its own"):
        run(imgs, imgs.parent / place, "dreambooth", overwrite=True)


def test_images_are_copied_where_links_are_not_possible_and_that_is_said(
    imgs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(files.os, "link", refuse)
    out, ear = imgs.parent / "out", Ear()
    export(imgs, ExportSettings(target="onetrainer", output=out), listener=ear)
    assert (out / "images" / "a.jpg").read_bytes() == (imgs / "a.jpg").read_bytes()
    assert ear.notes[0] == f"4 images were copied: hard links from there to {out} are not possible"


def test_a_copy_is_a_file_of_its_own(imgs: Path) -> None:
    out = exported(imgs, "imagefolder", images="copy")
    assert not (out / "train" / "a.jpg").samefile(imgs / "a.jpg")


@pytest.mark.skipif(os.name == "nt", reason="links need a privilege on Windows")
def test_an_image_behind_a_link_is_exported_as_the_image_itself(imgs: Path) -> None:
    (imgs / "link.jpg").symlink_to(imgs / "a.jpg")
    (imgs / "link.caption").write_text("linked")
    out = exported(imgs, "onetrainer", paths=PathOptions(follow_links=True))
    assert not (out / "images" / "link.jpg").is_symlink()
    assert (out / "images" / "link.jpg").samefile(imgs / "a.jpg")


class Stopping(NullListener):
    """Asks to stop at the first image."""

    def __init__(self, stop: CancelToken) -> None:
        self.stop, self.exporting = stop, False

    def stage(self, name: str, *_: object) -> None:
        self.exporting = name == "exporting"

    def advance(self, *_: object) -> None:
        if self.exporting:
            self.stop.exit_code = 130


def test_an_export_that_is_stopped_has_no_half_file_and_no_table(imgs: Path) -> None:
    stop, out = CancelToken(), imgs.parent / "out"
    report = export(imgs, ExportSettings(target="onetrainer", output=out), listener=Stopping(stop), stop=stop)
    assert (report.remaining, report.exit_code) == (4, 130)
    assert files_in(out) == {"images/5_cat/c.webp": (imgs / "5_cat" / "c.webp").read_bytes()}


def test_a_disk_that_is_full_leaves_no_half_file(imgs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(descriptor: int, _: bytes) -> None:
        os.write(descriptor, b"{")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "write_all", fill)
    with pytest.raises(Exception, match="No space left on device"):
        run(imgs, imgs.parent / "out", "sd-scripts")
    assert files_in(imgs.parent / "out") == {}


# Options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"target": "imagefolder", "repeats": 2}, "--repeats has no effect for imagefolder"),
        ({"target": "onetrainer", "resolution": 512}, "--resolution has no effect for onetrainer"),
        ({"target": "sd-scripts", "extension": ".txt"}, "--extension has no effect for sd-scripts"),
        ({"target": "parquet", "per_shard": 5}, "--per-shard has no effect for parquet"),
        ({"target": "imagefolder", "images": "leave"}, "imagefolder takes only --images link or copy, not leave"),
        ({"target": "webdataset", "images": "copy"}, "webdataset takes no --images, not copy"),
        ({"target": "sd-scripts-0.9", "format": "jsonl"}, "sd-scripts-0.9 takes only --format json, not jsonl"),
        ({"target": "dreambooth", "repeats": 0}, "--repeats must be 1 or more, not 0"),
        ({"target": "dreambooth", "extension": ".png"}, "cannot be the extension of a sidecar"),
        ({"target": "kohya"}, "--target takes"),
    ],
)
def test_an_option_without_effect_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ExportSettings(**options)


@pytest.mark.parametrize(
    ("order", "after"),
    [
        ("category", "1girl, kuro (sdprep), hat, best quality"),
        ("illustrious", "1girl, kuro (sdprep), hat, best quality"),
        ("anima", "best quality, 1girl, kuro (sdprep), hat"),
    ],
)
def test_tags_are_exported_by_category_and_stay_as_they_are_in_their_files(
    tmp_path: Path, order: str, after: str
) -> None:
    imgs = write_dataset(tmp_path / "imgs", {"a.png": (None, "hat, kuro (sdprep), best quality, 1girl")})
    tag(
        imgs,
        TagSettings(model="demo-tag", run=RunOptions(workers=0)),
        layers=Layers(now={"model": Statement("demo-tag", "api")}),
    )
    out = exported(imgs, "onetrainer", text="tags", order=order)
    assert (out / "images" / "a.txt").read_text().strip() == after
    assert (imgs / "a.txt").read_text().strip() == "hat, kuro (sdprep), best quality, 1girl"


def test_an_order_by_category_without_a_tagger_on_this_machine_is_refused(imgs: Path) -> None:
    with pytest.raises(UsageError, match="--order needs the label file of wd-v1-4-swinv2-tagger-v2"):
        run(imgs, imgs.parent / "out", "onetrainer", order="category")

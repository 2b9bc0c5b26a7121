"""The same rules at the command line: what counts as stated, what is said, and that no framework is loaded in vain."""

import json
import os
import signal
import subprocess

import pytest
from click.testing import CliRunner

from sdprep.cli.main import cli
from sdprep.cli.progress import Terminal
from tests.in_process import model_in_process
from tests.stories.telling import PYTHON, ROOT, STRICT, counts, hide_models, tag, tag_by_default, texts, write

# Runs commands in one process and says which of the heavy packages they loaded.
LOADED = """
import sys
from sdprep.cli.main import cli
for words in {commands!r}:
    try:
        cli(words)
    except SystemExit as leaving:
        assert not leaving.code, leaving.code
print(sorted({{"onnxruntime", "torch", "transformers"}} & set(sys.modules)), file=sys.stderr)
"""


def sdprep(*words, **environment):
    with model_in_process():
        return CliRunner().invoke(cli, [str(word) for word in words], env=environment)


def reported(result):
    return json.loads(result.stdout)


def numbers(report):
    names = ("written", "current", "kept", "failed", "remaining")
    return {name: report[name] for name in names if report[name]}


def loaded_by(*commands):
    script = LOADED.format(commands=[[str(word) for word in words] for words in commands])
    done = subprocess.run([PYTHON, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stderr.splitlines()[-1]


# What counts as stated


def test_a_flag_is_stated(tagged):
    result = sdprep("tag", tagged, "--model", "demo-tag", "--threshold", STRICT, "--json")

    assert numbers(reported(result)) == {"written": 3}


def test_a_flag_that_repeats_the_default_is_stated(tagged):
    tag(tagged, threshold=STRICT)

    result = sdprep("tag", tagged, "--model", "demo-tag", "--threshold", "0.35", "--json")

    assert numbers(reported(result)) == {"written": 3}


def test_the_environment_is_stated(tagged):
    result = sdprep("tag", tagged, "--model", "demo-tag", "--json", SDPREP_TAG_THRESHOLD=str(STRICT))

    assert numbers(reported(result)) == {"written": 3}


def test_the_settings_file_in_the_folder_is_stated(tagged):
    write(tagged / "sdprep.toml", f'[tag]\nmodel = "demo-tag"\nthreshold = {STRICT}\n')

    assert numbers(reported(sdprep("tag", tagged, "--json"))) == {"written": 3}


def test_a_settings_file_that_is_named_is_stated(tagged, tmp_path):
    config = write(tmp_path / "mine.toml", f'[tag]\nmodel = "demo-tag"\nthreshold = {STRICT}\n')

    assert numbers(reported(sdprep("tag", tagged, "--config", config, "--json"))) == {"written": 3}


def test_settings_for_another_command_are_not_stated(tagged):
    write(tagged / "sdprep.toml", "[caption]\nnum-beams = 7\n")

    assert numbers(reported(sdprep("tag", tagged, "--model", "demo-tag", "--json"))) == {"current": 3}


def test_a_command_without_flags_changes_nothing_that_was_made_with_flags(tagged):
    tag(tagged, threshold=STRICT, remove_underscore=True)
    before = texts(tagged)

    result = sdprep("tag", tagged, "--json")

    assert numbers(reported(result)) == {"current": 3}
    assert "3 were made with other settings; --update brings them in line" in result.stderr
    assert texts(tagged) == before


def test_options_that_shape_no_text_rewrite_nothing(tagged):
    words = ("--batch-size", "1", "--workers", "0", "--recursive", "--existing", "keep")

    assert numbers(reported(sdprep("tag", tagged, "--model", "demo-tag", *words, "--json"))) == {"current": 3}


def test_update_is_for_what_was_made_with_other_settings(album):
    tag_by_default(album, threshold=STRICT)
    words = ("tag", album, "--model", "demo-tag", "--json")

    without, updated = sdprep(*words), sdprep(*words, "--update")

    assert numbers(reported(without)) == {"current": 3}
    assert numbers(reported(updated)) == {"written": 3}


# What is said


def test_kept_texts_are_named(album):
    write(album / "b.txt", "mine")

    result = sdprep("tag", album, "--model", "demo-tag")

    assert result.exit_code == 0
    why = "yours: not written by sdprep, or approved (--existing append adds to it, --existing overwrite replaces it)"
    assert f"kept the sidecar of b.png: {why}\n" in result.stderr
    assert "2 written, 0 up to date, 1 kept, 0 failed" in result.stderr


def test_a_kept_text_beside_a_replaced_image_is_named(tagged, drawings):
    write(tagged / "b.txt", "mine")
    (tagged / "b.png").write_bytes(drawings[3])

    result = sdprep("tag", tagged, "--model", "demo-tag")

    assert "kept although the image has changed: b.png" in result.stderr


def test_failed_images_are_named_and_the_command_ends_with_3(album):
    (album / "b.png").write_bytes(b"no image")

    result = sdprep("tag", album, "--model", "demo-tag")

    assert result.exit_code == 3
    assert "failed: b.png: not_an_image" in result.stderr


def test_a_run_with_nothing_to_do_says_that_no_model_was_loaded(tagged, monkeypatch):
    hide_models(monkeypatch)

    result = sdprep("tag", tagged, "--model", "demo-tag")

    assert "no model was loaded" in result.stderr


def test_a_refresh_that_changes_nothing_does_not_say_that_no_model_was_loaded(tagged):
    result = sdprep("tag", tagged, "--model", "demo-tag", "--refresh")

    assert "3 up to date" in result.stderr
    assert "no model was loaded" not in result.stderr


def test_stdout_is_the_report_alone(album):
    result = sdprep("tag", album, "--model", "demo-tag", "--json")

    assert reported(result)["schema"] == 2
    assert sdprep("tag", album, "--model", "demo-tag").stdout == ""


def test_a_shared_sidecar_names_the_way_out(album, drawings):
    (album / "b.webp").write_bytes(drawings[3])

    result = sdprep("tag", album, "--model", "demo-tag")

    assert result.exit_code == 3
    assert "--sidecar-name full" in result.stderr


def test_ctrl_c_finishes_the_batch_in_hand_and_ends_with_130(album, monkeypatch):
    pending = [signal.SIGINT]
    monkeypatch.setattr(Terminal, "advance", lambda _: pending and os.kill(os.getpid(), pending.pop()))

    result = sdprep("tag", album, "--model", "demo-tag", "--batch-size", "1", "--workers", "0", "--json")

    report = reported(result)
    assert result.exit_code == 130
    assert report["written"] == len(texts(album))
    assert report["remaining"] == 3 - report["written"] > 0


# Frameworks


def test_another_threshold_loads_no_framework(tagged):
    assert loaded_by(["tag", tagged, "--model", "demo-tag", "--threshold", STRICT]) == "[]"
    assert numbers_now(tagged) == {"current": 3}


def numbers_now(folder):
    return counts(tag(folder, threshold=STRICT))


def test_log_undo_and_restore_load_no_framework(tagged):
    commands = (["undo", "--dir", tagged], ["log", tagged], ["restore", tagged / "a.txt"])

    assert loaded_by(*commands) == "[]"
    assert list(texts(tagged)) == ["a.txt"]


# History


def test_the_log_lists_a_run_by_the_name_that_undo_takes(album):
    write(album / "a.txt", "mine")
    sdprep("tag", album, "--model", "demo-tag", "--existing", "overwrite")
    [row] = reported(sdprep("log", album, "--json"))["runs"]

    result = sdprep("undo", row["run"], "--dir", album)

    assert result.exit_code == 0
    assert texts(album) == {"a.txt": b"mine"}


def test_the_run_of_a_report_is_the_run_of_the_log(album):
    report = reported(sdprep("tag", album, "--model", "demo-tag", "--json"))

    assert [row["run"] for row in reported(sdprep("log", album, "--json"))["runs"]] == [report["run"]]


def test_undo_names_what_it_refuses_and_ends_with_3(tagged):
    write(tagged / "b.txt", "edited")

    result = sdprep("undo", "--dir", tagged)

    assert result.exit_code == 3
    assert "b.txt: changed_since" in result.stderr
    assert "--force" in result.stderr


def test_the_texts_of_a_file_are_numbered_as_restore_takes_them(tagged):
    tag(tagged, threshold=STRICT)
    rows = reported(sdprep("log", tagged / "a.txt", "--json"))["versions"]
    first = next(row["version"] for row in rows if row["origin"].startswith("written by"))
    now = (tagged / "a.txt").read_bytes()

    result = sdprep("restore", tagged / "a.txt", "--version", first)

    assert result.exit_code == 0
    assert (tagged / "a.txt").read_bytes() != now


@pytest.mark.parametrize("name", ["--catalog", "--output-dir"])
def test_catalog_and_output_folder_are_options_of_tag(album, tmp_path, name):
    place = tmp_path / "elsewhere" / "place"

    result = sdprep("tag", album, "--model", "demo-tag", name, place)

    assert result.exit_code == 0
    assert place.exists()
    assert not (album / ".sdprep").exists()

"""`sdprep tag` and `sdprep caption` with --results as they are typed."""

import json
import shlex
import sys

import pytest

from sdprep.shards.results import Results
from sdprep.tasks.shards import run as shards_run
from tests.engines.engine import FAKES
from tests.shards.tars import tar
from tests.tasks.shards.sets import png, run, write_tars

MODEL = ("--model", str(FAKES / "fake-tag.toml"))
VARIABLES = ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_MIN", "SLURM_ARRAY_TASK_COUNT", "SKYPILOT_JOB_RANK",
             "SKYPILOT_NUM_JOBS", "JOB_COMPLETION_INDEX")  # fmt: skip


@pytest.fixture
def tars(tmp_path, monkeypatch):
    """A folder with four tars of three images."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "data").mkdir()
    write_tars(tmp_path / "data", 4)
    return tmp_path / "data"


def test_a_run_says_what_became_of_images_and_shards(sdprep_command, tars):
    done = sdprep_command("tag", "data/{00..03}.tar", "--results", "out", *MODEL)

    assert done.code == 0
    assert "tag: 12 images: 12 written, 0 up to date, 0 kept, 0 failed, 0 remaining" in done.err
    assert "4 shards: 4 done, 0 done before or by others, 0 given up, 0 remaining" in done.err


def test_a_process_that_others_outran_does_not_say_that_it_loaded_no_model(sdprep_command, tars, monkeypatch):
    real = shards_run.open_worker

    def outrun(*given, **named):
        monkeypatch.setattr(shards_run, "open_worker", real)
        run("out", "data/00.tar")
        return real(*given, **named)

    monkeypatch.setattr(shards_run, "open_worker", outrun)
    done = sdprep_command("tag", "data/00.tar", "--results", "out", *MODEL)

    assert "1 shard: 0 done, 1 done before or by others" in done.err
    assert "no model was loaded" not in done.err


def test_the_report_counts_shards(sdprep_command, tars):
    done = sdprep_command("tag", "data", "--results", "out", "--shard", "1/2", "--no-steal", "--json", *MODEL)

    assert json.loads(done.out)["shards"] == {
        "found": 4,
        "before": 0,
        "done": 2,
        "damaged": 0,
        "failed": 0,
        "remaining": 2,
    }


def test_captions_are_made_alike(sdprep_command, tars):
    done = sdprep_command("caption", "data/00.tar", "--results", "out", "--model", str(FAKES / "fake-caption.toml"))

    assert done.code == 0
    assert [row.outcome for row in Results.at("out").rows("00", "caption")] == ["ok"] * 3


def test_other_settings_exit_with_2_and_the_difference(sdprep_command, tars):
    sdprep_command("tag", "data/00.tar", "--results", "out", *MODEL)
    done = sdprep_command("tag", "data/00.tar", "--results", "out", "--threshold", "0.5", *MODEL)

    assert done.code == 2
    assert done.err.splitlines()[-1] == "threshold: 0.35 there, 0.5 here"


@pytest.mark.parametrize(
    ("variables", "text", "done"),
    [
        ({"SLURM_ARRAY_TASK_ID": "2", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_COUNT": "4"}, "auto", ["01"]),
        ({"SKYPILOT_JOB_RANK": "3", "SKYPILOT_NUM_JOBS": "4"}, "auto", ["03"]),
        ({"JOB_COMPLETION_INDEX": "1"}, "auto/2", ["01", "03"]),
        ({}, "0/4", ["00"]),
    ],
)
def test_a_scheduler_says_which_part_is_this_processs(sdprep_command, tars, monkeypatch, variables, text, done):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    sdprep_command("tag", "data", "--results", "out", "--shard", text, "--no-steal", *MODEL)

    assert list(Results.at("out").done()) == done


@pytest.mark.parametrize(
    ("variables", "options", "message"),
    [
        ({}, ["--shard", "4/4"], "counts from 0 to 3"),
        ({}, ["--shard", "x"], "give I/N"),
        ({}, ["--shard", "auto"], "none of SLURM_ARRAY_TASK_ID"),
        ({"JOB_COMPLETION_INDEX": "1"}, ["--shard", "auto"], "use auto/N"),
        ({"JOB_COMPLETION_INDEX": "one"}, ["--shard", "auto/2"], "not a number"),
        ({}, ["--where", "tag:hat"], "--where is for folders"),
        ({}, ["--existing", "append", "--limit", "2"], "--existing and --limit are for folders"),
        ({}, ["--model", "demo-tag", "--model", "wd-vit-tagger-v3"], "one model"),
    ],
)
def test_what_does_not_fit_is_refused(sdprep_command, tars, monkeypatch, variables, options, message):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    model = () if "--model" in options else MODEL
    done = sdprep_command("tag", "data", "--results", "out", *model, *options)

    assert (done.code, message in done.err) == (2, True)


def test_options_of_shards_alone_are_refused(sdprep_command, tars):
    done = sdprep_command("tag", "data", "--shard", "0/2", "--spool", "5", *MODEL)

    assert (done.code, "--shard and --spool have no effect without --results" in done.err) == (2, True)


@pytest.mark.parametrize("source", ["s3://bucket/photos", "data/0.tar", "data/0.TAR.GZ", "data/*.tgz", "x.parquet"])
def test_what_only_runs_over_shards_read_is_refused_without_results(sdprep_command, source):
    done = sdprep_command("tag", source, *MODEL)

    assert (done.code, "only a run with --results reads buckets" in done.err) == (2, True)


@pytest.mark.parametrize("missing", [("obstore", "obstore.exceptions", "obstore.store"), ("pyarrow",)])
def test_a_missing_extra_is_named(sdprep_command, tars, monkeypatch, missing):
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    done = sdprep_command("tag", "s3://bucket/a.tar", "--results", "out", *MODEL)

    assert done.code == 5
    assert "[shards]" in done.err


def test_the_command_after_an_import_runs_with_a_model_from_a_file(sdprep_command, tars):
    sdprep_command("tag", "data", "--results", "out", *MODEL)
    imgs = tars.parent / "imgs"
    imgs.mkdir()
    (imgs / "a.png").write_bytes(png(0))
    told = sdprep_command("results", "import", "out", "imgs").err.partition("write the sidecars with: sdprep ")[2]
    done = sdprep_command(*shlex.split(told))

    assert (done.code, "stored results only" in done.err) == (0, True)


def test_the_command_after_an_import_accepts_the_images_that_the_run_accepted(sdprep_command, tars):
    incomplete = png(0, (64, 64))[:-30]
    (tars / "04.tar").write_bytes(tar({"a.png": incomplete}))
    sdprep_command("tag", "data/04.tar", "--results", "out", "--allow-truncated", *MODEL)
    imgs = tars.parent / "imgs"
    imgs.mkdir()
    (imgs / "a.png").write_bytes(incomplete)
    told = sdprep_command("results", "import", "out", "imgs").err.partition("write the sidecars with: sdprep ")[2]
    done = sdprep_command(*shlex.split(told))

    assert ("--allow-truncated" in told, done.code, (imgs / "a.txt").exists()) == (True, 0, True)


# A Ray cluster


@pytest.mark.parametrize("option", [("--ray-address", "head:6379"), ("--actors", "2")], ids=lambda option: option[0])
def test_options_of_a_cluster_have_no_effect_without_it(sdprep_command, tars, option):
    done = sdprep_command("tag", "data", "--results", "out", *option, *MODEL)

    assert done.code == 2
    assert f"{option[0]} has no effect without --engine ray" in done.err


def test_an_address_of_the_environment_is_no_option_that_was_given(sdprep_command, tars, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    assert sdprep_command("tag", "data", "--results", "out", *MODEL).code == 0


def test_the_address_of_the_environment_is_that_of_the_cluster(sdprep_command, tars, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "ray://head:10001")
    done = sdprep_command("tag", "data", "--results", "out", "--engine", "ray", *MODEL)

    assert done.code == 2
    assert "--ray-address ray://head:10001: give HOST:PORT" in done.err


def test_without_ray_the_exit_code_is_5_and_nothing_is_begun(sdprep_command, tars, monkeypatch):
    monkeypatch.setattr("sdprep.engines.ray.find_spec", lambda _: None)
    done = sdprep_command("tag", "data", "--results", "out", "--engine", "ray", *MODEL)

    assert done.code == 5
    assert "ray is not installed. Install it with:" in done.err
    assert not (tars.parent / "out").exists()


def test_a_folder_that_only_has_tars_leads_to_results(sdprep_command, tars):
    done = sdprep_command("tag", "data", *MODEL)

    assert done.code == 4
    assert "read the images in them with --results URL" in done.err

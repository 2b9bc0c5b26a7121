"""`sdprep tag --model a --model b`."""

from tests import several_models
from tests.several_models import tags

images, models = several_models.images, several_models.models


def test_the_command_takes_the_option_several_times_and_remembers_the_list(models, images, sdprep_command):
    one, two = models("one", "two")
    first = sdprep_command("tag", images, "--model", one, "-m", two, "--workers", "0")
    assert (first.code, tags(images)) == (0, "1girl, aka_(sdprep), hat, long_hair")
    again = sdprep_command("tag", images, "--combine", "vote", "--workers", "0")
    assert f"--model {one} --model {two}" in again.err
    assert (again.code, tags(images), models.asked_now()) == (0, "1girl", {"one": 3, "two": 3})
    shown = sdprep_command("tag", images, "--show-config").out
    assert f'model = ["{one}", "{two}"]  # run' in shown
    sdprep_command("tag", images, "--model", one, "--workers", "0")
    assert tags(images) == "1girl, aka_(sdprep), long_hair"


def test_a_way_to_combine_one_model_has_no_effect_and_says_so(models, images, sdprep_command):
    done = sdprep_command("tag", images, "--model", models("one"), "--combine", "vote", "--workers", "0")
    assert "--combine has no effect with one model\n" in done.err
    done = sdprep_command("tag", images, "--model", models("one"), "-m", models("two"), "--combine", "mean")
    assert "has no effect" not in done.err


def test_a_settings_file_takes_one_model_or_a_list(models, images, tmp_path, sdprep_command):
    one, two = models("one", "two")
    config = tmp_path / "c.toml"
    config.write_text(f'[tag]\nmodel = ["{one}", "{two}"]\ncombine = "mean"\n')
    assert sdprep_command("tag", images, "--config", config, "--workers", "0").code == 0
    assert tags(images) == "1girl, aka_(sdprep), hat"
    config.write_text("[tag]\nmodel = []\n")
    assert "it is blank" in sdprep_command("tag", images, "--config", config).err


def test_models_separated_by_commas_are_refused_with_the_way_to_give_several(models, images, sdprep_command):
    done = sdprep_command("tag", images, "--model", "demo-tag,cl_tagger")
    assert (done.code, "For several taggers, repeat --model\n" in done.err) == (2, True)


def test_a_settings_file_of_a_dataset_takes_several_registered_models_only(models, images, sdprep_command):
    (images / "sdprep.toml").write_text('[tag]\nmodel = ["demo-tag", "./mine.toml"]\n')
    done = sdprep_command("tag", images)
    assert (done.code, "is not a name from `sdprep models list`" in done.err) == (2, True)
    (images / "sdprep.toml").write_text('[tag]\nmodel = ["demo-tag", "cl_tagger"]\ncombine = "mean"\n')
    assert 'model = ["demo-tag", "cl_tagger"]' in sdprep_command("tag", images, "--show-config").out

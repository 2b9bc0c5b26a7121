"""What `sdprep bench` concludes from figures."""

from pathlib import Path

import pytest

from sdprep.tasks.bench.bench_report import Environment, Stage, judge

MIXED = {"decode": Stage(10, 1.0, 1.0)}


def at(**changes):
    usual = {"model": "wd", "task": "tag", "precision": "float32", "provider": "cpu", "cpus": 4, "workers": 4}
    return Environment(**usual | changes)


def slow_model(seconds=10.0):
    """A model that takes this many CPU seconds for ten images, a quarter of them by the clock."""
    return {**MIXED, "predict": Stage(10, seconds / 4, seconds)}


def gpu(rate):
    """A GPU that takes this many images per second, and hardly any CPU time."""
    return {**MIXED, "predict": Stage(10, 10 / rate, 0.01)}


def advice(stages, **changes):
    return " ".join(judge(stages, at(**changes)).advice)


# Figures


def test_shares_are_of_the_cpu_time_per_image():
    shares = judge(slow_model(9.0), at()).shares
    assert shares == pytest.approx({"decode": 0.1, "predict": 0.9})


def test_the_shares_make_a_whole():
    stages = {**slow_model(), "write": Stage(5, 1.0, 0.3), "all": Stage(10, 3.0, 1.0)}
    assert sum(judge(stages, at()).shares.values()) == pytest.approx(1)


def test_stages_of_different_numbers_of_images_are_compared_by_the_image():
    stages = {"decode": Stage(10, 1.0, 1.0), "predict": Stage(100, 10.0, 30.0)}
    assert judge(stages, at()).shares == pytest.approx({"decode": 0.25, "predict": 0.75})


def test_the_cores_that_keep_a_model_busy_are_its_images_a_second_times_the_seconds_to_decode_one():
    assert judge(gpu(rate=120), at(provider="cuda")).cores == pytest.approx(12)


def test_on_a_cpu_decoding_and_the_model_share_the_cores():
    assert judge(slow_model(7.0), at()).limit == pytest.approx(4 / 0.8)


def test_on_a_gpu_the_slower_of_decoding_and_the_model_is_the_limit():
    limits = [judge(gpu(rate), at(provider="cuda")).limit for rate in (10, 120)]
    assert limits == pytest.approx([10, 40])


def test_what_a_run_reaches_is_its_share_of_what_is_possible():
    stages = {**slow_model(7.0), "all": Stage(10, 4.0, 1.0)}
    assert judge(stages, at()).reached == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["decode", "predict", "write", "all"])
def test_from_one_stage_alone_nothing_follows(name):
    found = judge({name: Stage(10, 1.0, 1.0)}, at())
    assert (found.shares, found.cores, found.limit, found.reached, found.advice) == (None, None, None, None, ())


def test_a_clock_too_coarse_for_the_images_gives_no_verdict():
    found = judge({"decode": Stage(1, 0.001, 0.0), "predict": Stage(1, 0.001, 0.0)}, at())
    assert (found.shares, found.limit) == (None, None)


# Advice on a CPU


def test_if_the_model_takes_most_a_gpu_or_int8_is_advised():
    text = advice(slow_model(9.0))
    assert "The model takes 90% of the CPU time" in text
    assert "a GPU would help" in text
    assert "`sdprep models quantize wd` with a folder of your own as --images" in text
    assert "more workers would not" in text


def test_the_advised_command_names_the_folder_that_was_measured():
    text = advice(slow_model(9.0), images=Path("/my images"))
    assert "`sdprep models quantize wd --images '/my images'`" in text


def test_a_model_in_int8_is_not_made_smaller_again():
    text = advice(slow_model(), precision="int8")
    assert ("quantize" in text, "a smaller model" in text) == (False, True)


def test_a_captioner_is_made_faster_by_options_of_its_own():
    text = advice(slow_model(), task="caption")
    assert ("quantize" in text, "--dtype int8" in text) == (False, True)


def test_if_decoding_takes_most_a_faster_model_is_not_advised():
    text = advice(slow_model(0.2))
    assert "Reading images takes 83% of the CPU time" in text
    assert "a faster model would not" in text


@pytest.mark.parametrize(("workers", "more"), [(2, True), (4, False)])
def test_more_workers_are_advised_while_there_are_cores_for_them(workers, more):
    assert ("--workers 4" in advice(slow_model(0.2), workers=workers)) == more


# Advice with a GPU


def test_a_gpu_that_waits_for_too_few_cores_is_reported():
    text = advice(gpu(rate=120), provider="cuda")
    assert "it could take 120 images/s, which needs 12 CPU cores to decode, and there are 4" in text


def test_a_gpu_that_waits_for_too_few_workers_gets_as_many_as_it_needs():
    assert "--workers 3 would keep cuda busy; 2 do not" in advice(gpu(rate=25), provider="cuda", workers=2)


def test_a_busy_gpu_gets_larger_batches_or_fp16():
    text = advice(gpu(rate=5), provider="cuda")
    assert ("--batch-size" in text, "wd-fp16" in text, "more workers would not" in text) == (True, True, True)


def test_a_captioner_on_a_gpu_gets_no_advice_for_taggers():
    assert "fp16" not in advice(gpu(rate=5), provider="cuda", task="caption")


# Advice on the rest


def test_slow_writing_is_reported():
    assert "Sidecars and the catalog take 33%" in advice({**slow_model(1.0), "write": Stage(10, 2.0, 1.0)})


def test_writing_that_takes_little_is_not():
    assert "catalog" not in advice({**slow_model(), "write": Stage(10, 0.1, 0.1)})


@pytest.mark.parametrize(("workers", "reason"), [(0, "take turns"), (2, "other running programs")])
def test_a_run_that_falls_short_gets_a_reason(workers, reason):
    stages = {**slow_model(7.0), "all": Stage(10, 4.0, 1.0)}
    assert f"A whole run reaches 50% of what its stages allow: {reason}" in advice(stages, workers=workers).replace(
        "with --workers 0, decoding and the model ", ""
    )


def test_a_run_that_comes_close_needs_none():
    assert "whole run" not in advice({**slow_model(7.0), "all": Stage(10, 2.1, 1.0)})


@pytest.mark.parametrize(("startup", "told"), [(3.0, True), (1.0, False)])
def test_a_start_longer_than_the_work_is_reported(startup, told):
    assert ("Starting took" in advice({"all": Stage(10, 2.0, 1.0)}, startup=startup)) == told

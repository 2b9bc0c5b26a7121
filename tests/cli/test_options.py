"""Every option in every spelling that is promised."""

import re
from pathlib import Path

import click

from sdprep.cli.main import cli
from sdprep.cli.talk import talking
from tests.commands import COMMANDS

OPTIONS = [
    (command, option, name)
    for command in COMMANDS.values()
    for option in command.params
    if isinstance(option, click.Option)
    for name in [*option.opts, *option.secondary_opts]
    if name.startswith("--")
]
SPECIAL = {"preset": "kohya", "tag_replacement": "old,new", "threshold": "0.25", "category_threshold": "species=0.25"}
SPECIAL |= {"encoding": "gb18030", "csv_file": "a.csv", "html_file": "a.html", "plot_file": "a.svg"}
SHORTCUTS = [
    (command, option.name, name, value)
    for command in COMMANDS.values()
    for option in command.params
    for name, value in getattr(option, "shortcuts", {}).items()
]
KOHYA = [
    ("tag", "--thresh", "0.5", "threshold", 0.5),
    ("tag", "--general_threshold", "0.5", "general_threshold", 0.5),
    ("tag", "--character_threshold", "0.5", "character_threshold", 0.5),
    ("tag", "--repo_id", "a/b", "model", "a/b"),
    ("tag", "--batch_size", "3", "batch_size", 3),
    ("tag", "--max_data_loader_n_workers", "3", "workers", 3),
    ("tag", "--caption_extension", ".tags", "caption_extension", ".tags"),
    ("tag", "--caption_extention", ".tags", "caption_extension", ".tags"),
    ("tag", "--caption_separator", "; ", "caption_separator", "; "),
    ("tag", "--undesired_tags", "a, b", "exclude", ("a", "b")),
    ("tag", "--remove_underscore", None, "remove_underscore", True),
    ("tag", "--use_rating_tags", None, "ratings", "first"),
    ("tag", "--use_rating_tags_as_last_tag", None, "ratings", "last"),
    ("tag", "--use_quality_tags", None, "quality", "first"),
    ("tag", "--use_quality_tags_as_last_tag", None, "quality", "last"),
    ("tag", "--meta_threshold", "0.5", "meta_threshold", 0.5),
    ("tag", "--model_threshold", "0.5", "model_threshold", 0.5),
    ("tag", "--copyright_threshold", "0.5", "copyright_threshold", 0.5),
    ("tag", "--artist_threshold", "0.5", "artist_threshold", 0.5),
    ("tag", "--append_tags", None, "existing", "append"),
    ("tag", "--onnx", None, "backend", "onnx"),
    ("tag", "--model_dir", "models", "model_dir", Path("models")),
    ("tag", "--force_download", None, "force_download", True),
    ("tag", "--frequency_tags", None, "frequency_tags", True),
    ("tag", "--debug", None, "debug", True),
    ("tag", "--character_tags_first", None, "character_tags_first", True),
    ("tag", "--character_tag_expand", None, "character_tag_expand", True),
    ("tag", "--always_first_tags", "a,b", "always_first_tags", ("a", "b")),
    ("tag", "--tag_replacement", "a,b", "tag_replacement", (("a", "b"),)),
    ("tag", "--recursive", None, "recursive", True),
    ("caption", "--caption_weights", "a/b", "model", "a/b"),
    ("caption", "--caption_extention", ".cap", "caption_extension", ".cap"),
    ("caption", "--num_beams", "5", "num_beams", 5),
    ("caption", "--top_p", "0.5", "top_p", 0.5),
    ("caption", "--max_length", "50", "max_length", 50),
    ("caption", "--min_length", "1", "min_length", 1),
    ("caption", "--seed", "7", "seed", 7),
    ("caption", "--max_data_loader_n_workers", "3", "workers", 3),
    ("merge", "--caption_extention", ".cap", "caption_extension", ".cap"),
]


def parsed(command, words):
    """The parameters that a command makes of these words."""
    group = click.Context(cli, **cli.context_settings)
    with talking(), command.make_context(command.name, words, parent=group) as context:
        return context.params


def argument_of(command, folder):
    """What the command must be given besides its options."""
    if not any(isinstance(param, click.Argument) and param.name != "run" for param in command.params):
        return []
    if command.name == "quantize":
        return ["demo-tag", "--images", str(folder)]
    if command.name == "check":
        return [str(folder), "--target", "onetrainer"]
    if command is COMMANDS["results export"]:
        return [str(folder), "--output", "meta.json"]
    if command is COMMANDS["results import"]:
        return [str(folder), str(folder)]
    if command.name == "export":
        return [str(folder), "--target", "onetrainer", "--output", str(folder / "out")]
    files = {"restore": "a.txt", "add": "empty.toml"}
    return [str(folder / files[command.name])] if command.name in files else [str(folder)]


def value_of(option, folder):
    """A value that the option takes and that is not its default."""
    if option.is_flag:
        return []
    if isinstance(option.type, click.Choice):
        return [str(option.type.choices[-1])]
    if option.name in ("config", "log_file", "prompt_file"):
        return [str(folder / ("run.log" if option.name == "log_file" else "empty.toml"))]
    if option.name in ("directory", "images", "into") and not isinstance(option.type, click.Choice):
        return [str(folder)]
    if option.name in SPECIAL:
        return [SPECIAL[option.name]]
    return ["0.25"] if isinstance(option.type, click.types.FloatParamType) else ["17"]


def test_hyphens_and_underscores_mean_the_same(tmp_path):
    (tmp_path / "empty.toml").touch()
    different = []
    for command, option, name in OPTIONS:
        rest = [*value_of(option, tmp_path), *argument_of(command, tmp_path)]
        spellings = "--" + name[2:].replace("-", "_"), "--" + name[2:].replace("_", "-")
        if parsed(command, [spellings[0], *rest]) != parsed(command, [spellings[1], *rest]):
            different.append((command.name, name))
    assert different == []


def test_a_shortcut_brings_its_value_in_both_spellings(tmp_path):
    assert SHORTCUTS
    wrong = [
        (command.name, spelling)
        for command, option, name, value in SHORTCUTS
        for spelling in (name, "--" + name[2:].replace("-", "_"))
        if parsed(command, [spelling, str(tmp_path)])[option] != value
    ]
    assert wrong == []


def test_behind_two_hyphens_a_shortcut_is_a_word_like_any_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "--onnx").mkdir()
    assert parsed(COMMANDS["tag"], ["--", "--onnx"])["inputs"] == (Path("--onnx"),)


def test_every_option_has_a_line_of_help():
    assert [(command.name, name) for command, option, name in OPTIONS if not option.help] == []


def test_no_line_of_help_has_a_bound_that_is_none():
    help_texts = [command.get_help(click.Context(command)) for command in COMMANDS.values()]
    assert [text for text in help_texts if re.search(r"[<>]=?\s*None", text)] == []


def test_kohyas_spellings_are_understood(tmp_path):
    understood = []
    for command, spelling, value, name, _ in KOHYA:
        words = [spelling, *([value] if value else []), str(tmp_path)]
        understood.append((command, spelling, value, name, parsed(COMMANDS[command], words)[name]))
    assert understood == KOHYA


def test_a_list_of_nothing_but_commas_is_a_usage_error(sdprep_command, imgs):
    outcome = sdprep_command("caption", imgs, "--bad-words", ",")
    assert (outcome.code, r"write a literal comma as \," in outcome.err) == (2, True)


def test_what_is_not_a_finite_number_is_a_usage_error(sdprep_command, imgs):
    numbers = [
        (words, option.opts[0], value)
        for words, command in COMMANDS.items()
        for option in command.params
        if isinstance(option.type, click.types.FloatParamType) or option.name == "threshold"
        for value in ("nan", "inf")
    ]
    assert len(numbers) > 20
    for words, name, value in numbers:
        outcome = sdprep_command(*words.split(), *argument_of(COMMANDS[words], imgs), name, value)
        assert (words, name, outcome.code, value in outcome.err) == (words, name, 2, True)


def test_help_shows_official_names_only(sdprep_command):
    shown = sdprep_command("tag", "--help").out
    aliases = ["--thresh", "--repo-id", "--caption-extention", "--max-data-loader-n-workers"]
    assert [alias for alias in aliases if f"{alias} " in shown] == []


def test_a_misspelt_option_gets_a_suggestion(sdprep_command, imgs):
    assert "--threshold" in sdprep_command("tag", imgs, "--thresold", "0.3").err


def test_a_misspelt_command_gets_a_suggestion(sdprep_command):
    assert "tag" in sdprep_command("tagg").err.splitlines()[0]


def test_the_version_is_said(sdprep_command):
    assert sdprep_command("--version").out == f"sdprep, version {sdprep_version()}\n"


def sdprep_version():
    from sdprep import __version__

    return __version__


def test_the_help_has_its_options_under_headings(sdprep_command):
    shown = sdprep_command("tag", "--help").out
    heads = re.findall(r"^(\w[\w ]*):$", shown, re.MULTILINE)
    assert heads == ["Model", "Tags", "Shards", "Run", "Files", "Speed and limits", "Settings", "Output", "Example"]
    assert "--help" in shown[shown.index("Output:") :]


def test_every_option_of_a_long_command_has_a_heading():
    bare = [
        (words, option.name)
        for words in ("tag", "caption", "merge")
        for option in COMMANDS[words].params
        if isinstance(option, click.Option) and option.heading is None
    ]
    assert bare == []


def test_the_options_that_are_typed_most_have_a_short_form(tmp_path):
    (tmp_path / "empty.toml").touch()
    given = parsed(COMMANDS["tag"], ["-m", "demo-tag", "-t", "0.5", "-o", str(tmp_path), str(tmp_path)])
    assert (given["model"], given["threshold"], given["output_dir"]) == ("demo-tag", 0.5, tmp_path)
    given = parsed(COMMANDS["caption"], ["-m", "demo-caption", "-o", str(tmp_path), str(tmp_path)])
    assert (given["model"], given["output_dir"]) == ("demo-caption", tmp_path)
    assert parsed(COMMANDS["merge"], ["-o", "m.json", str(tmp_path)])["output"] == Path("m.json")


def test_no_command_has_two_options_of_one_name():
    for words, command in COMMANDS.items():
        names = [name for option in command.params for name in (*option.opts, *option.secondary_opts)]
        assert (words, sorted(names)) == (words, sorted(set(names)))

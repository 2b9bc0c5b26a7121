"""Settings that came with the images: a stranger may choose among harmless things only."""

import json
import os
import sys

import click
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdprep.cli.settings_files import setting_options
from sdprep.cli.stated import effective
from sdprep.sanitize import has_hidden
from sdprep.tasks.options.untrusted import CHECKS
from tests.commands import COMMANDS

SETTLED = ("caption", "tag", "merge")


@pytest.fixture
def says(sdprep_command, imgs):
    """Runs a command over images among which this `sdprep.toml` lies."""

    def run(text, command="tag", *words):
        (imgs / "sdprep.toml").write_text(text, encoding="utf-8")
        return sdprep_command(command, imgs, "--show-config", *words)

    return run


def options(command):
    return list(setting_options(COMMANDS[command]).values())


def test_somebody_has_decided_about_every_option():
    assert {option.name for command in SETTLED for option in options(command)} == set(CHECKS)


# Paths

LEAVING = [
    "/etc/passwd",
    "../x.jsonl",
    "a/../../x",
    "C:x",
    "C:/x",
    "//host/x",
    "\\\\host\\x",
    "a\\\\b",
    "nul",
    ".git",
    "a/.hidden",
    "a/CON.txt",
    "",
]
PATHS = [("tag", "output-dir"), ("tag", "aliases"), ("tag", "implications"), ("tag", "tag-thresholds")]
PATHS += [("caption", "output-dir"), ("merge", "output-dir")]


@pytest.mark.parametrize("value", LEAVING)
@pytest.mark.parametrize(("command", "name"), PATHS)
def test_a_path_that_leaves_the_folder_is_refused(says, command, name, value):
    ended = says(f"[{command}]\n{name} = '{value}'\n", command)
    assert ended.code == 2
    assert f"{name.replace('-', '_')} is hidden or outside the folder of the file" in ended.err


def test_a_path_starts_at_the_folder_of_the_images(says, imgs):
    assert f'aliases = "{imgs / "deep" / "list.csv"}"' in says('[tag]\naliases = "deep/list.csv"\n').out


@pytest.mark.skipif(sys.platform == "win32", reason="pipes have no place in folders there")
@pytest.mark.parametrize(("command", "name"), PATHS)
def test_a_path_of_a_pipe_is_refused(says, imgs, command, name):
    os.mkfifo(imgs / "x.json")
    ended = says(f"[{command}]\n{name} = 'x.json'\n", command)
    assert ended.code == 2
    assert f"{name.replace('-', '_')} is not a regular file" in ended.err


WRITTEN = [("tag", "scores"), ("tag", "catalog"), ("tag", "model-dir"), ("merge", "output"), ("merge", "in-json")]


@pytest.mark.parametrize(("command", "name"), WRITTEN)
def test_a_file_that_would_be_replaced_is_refused(says, command, name):
    ended = says(f'[{command}]\n{name} = "x.json"\n', command)
    assert (ended.code, f"{name} cannot be set by a file in the dataset folder" in ended.err) == (2, True)


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")
def test_a_path_through_a_link_that_leaves_is_refused(says, imgs, tmp_path):
    (imgs / "out").symlink_to(tmp_path)
    assert "output_dir is outside the folder" in says('[tag]\noutput-dir = "out"\n').err


# Models


@pytest.mark.parametrize(
    "value",
    ["x.toml", "sub/X.TOML", "~/model", ".", "SmilingWolf/wd-vit-tagger-v3", "unheard-of", "demo-tag\u200b"],
)
def test_a_model_that_the_table_does_not_pin_is_refused(says, value):
    ended = says(f'[tag]\nmodel = "{value}"\n')
    assert (ended.code, "model is not a name from `sdprep models list`" in ended.err) == (2, True)


def test_a_name_of_a_model_is_fine(says):
    assert 'model = "demo-tag"  # /' in says('[tag]\nmodel = "demo-tag"\n').out


def test_the_word_model_for_thresholds_is_no_path(says):
    assert 'tag-thresholds = "model"' in says('[tag]\ntag-thresholds = "model"\n').out


# Values

CRASH_CODES = {
    "overwriting": ("tag", "existing = 'overwrite'", "existing can only be keep"),
    "adding to texts": ("caption", "existing = 'append'", "existing can only be keep"),
    "another extension": ("tag", "caption-extension = '.pth'", "caption-extension can only be .txt"),
    "an extension for code": ("caption", "caption_extension = '.py'", "caption-extension can only be .txt"),
    "an extension of captions": ("merge", "tag-extension = '.json'", "tag-extension can only be .txt"),
    "a line break": ("caption", r'prefix = "a\nimport os"', "prefix has a control character"),
    "an escape": ("tag", r'prefix = ["a", "\u001b[2J"]', "prefix has a control character"),
    "a change of direction": ("tag", r'suffix = "\u202egpj"', "suffix has a control character"),
    "an invisible character": ("caption", r'prompt = "a\u200b"', "prompt has a control character"),
    "a line separator": ("tag", r'tag-replacement = "a,b\u2028c"', "tag-replacement has a control character"),
    "a hidden tag": ("tag", r'always-first-tags = ["\U000E0041"]', "always-first-tags has a control character"),
    "a joiner in a text": ("caption", r'suffix = "\U0001F469\u200d\U0001F467"', "suffix has a control character"),
    "many wildcards": ("tag", f"exclude = {['*a*?*_*17*w*z'] * 51}", "exclude has more than 50 wildcards"),
    "a long wildcard": ("tag", f"exclude = '{'a*' * 101}'", "exclude has more than 50 wildcards, or one of more than"),
    "a separator with a line break": ("tag", r'caption-separator = "\n"', "caption-separator has a control character"),
    "a separator without end": ("tag", f"caption-separator = '{'x' * 21}'", "caption-separator is longer than 20"),
    "a text without end": ("caption", f"prefix = '{'x' * 1001}'", "prefix is longer than 1000 characters"),
    "a list without end": ("tag", f"exclude = {['x'] * 501}", "exclude is longer than"),
    "pickles": ("caption", "allow-pickle = true", "allow-pickle can only be false"),
    "incomplete images": ("tag", "allow-truncated = true", "allow-truncated can only be false"),
    "a new download": ("tag", "force-download = true", "force-download can only be false"),
    "all work again": ("tag", "refresh = true", "refresh can only be false"),
    "entries dropped": ("merge", "prune = true", "prune can only be false"),
    "a program as a model": ("tag", "backend = 'tensorflow'", "backend can only be auto or onnx"),
    "many processes": ("tag", "device = 'cpu,cpu,cpu'", "device can only be auto"),
    "a program of a driver": ("tag", "provider = 'tensorrt'", "provider can only be auto"),
    "more memory": ("tag", "memory = 513", "memory can only be 512 or less"),
    "larger images": ("tag", "max-pixels = 100000001", "max-pixels can only be 100,000,000 or less"),
    "more threads": ("tag", "workers = 3", "workers can only be from 1 to 2"),
    "no process for decoding": ("tag", "workers = 0", "workers can only be from 1 to 2"),
    "larger batches": ("tag", "batch-size = 9", "batch-size can only be 8 or less"),
    "more time": ("tag", "image-timeout = 61", "image-timeout can only be 60.0 or less"),
    "more beams": ("caption", "num-beams = 4", "num-beams can only be 3 or less"),
    "longer captions": ("caption", "max-length = 257", "max-length can only be 256 or less"),
    "no short captions": ("caption", "min-length = 6", "min-length can only be 5 or less"),
    "more captions": ("caption", "captions = 2", "captions can only be 1 or less"),
    "captions thrown away": ("caption", "best-of = 2", "best-of can only be 1 or less"),
}


@pytest.mark.parametrize(("command", "line", "said"), CRASH_CODES.values(), ids=CRASH_CODES)
def test_what_could_do_harm_is_refused_by_name(says, imgs, command, line, said):
    ended = says(f"[{command}]\n{line}\n", command)
    assert (ended.code, said in ended.err) == (2, True), ended.err
    assert "pass this file with --config if you trust it" in ended.err
    allowed = says(f"[{command}]\n{line}\n", command, "--config", imgs / "sdprep.toml").err
    assert "--config if you trust it" not in allowed


HARMLESS = {
    "tag": "existing='keep'\ncaption-extension='caption'\nprefix=['a','青い']\nmemory=1\nworkers=1\nmax-tags=9\n"
    "exclude='*_hair, solo'\nallow-truncated=false\noutput-dir='out'\ndevice='cuda'\nthreshold='mcut'\n",
    "caption": "prompt='a photo of'\nnum-beams=1\nmax-length=20\nallow-pickle=false\nsuffix='👩 ああ\u3000'\nseed=7\n",
    "merge": "keys='relative'\nfields=['tags']\ncaption-extension='.txt'\nprune=false\n",
}


@pytest.mark.parametrize(("command", "lines"), HARMLESS.items(), ids=HARMLESS)
def test_what_is_harmless_is_taken(says, command, lines):
    ended = says(f"[{command}]\n{lines}", command)
    assert (ended.code, ended.out.count("/sdprep.toml\n")) == (0, lines.count("\n")), ended.err


# Everything that nobody sees by its category, and what only its drawing tells.
UNSEEN = [
    chr(code) for code in (*range(0x20), *range(0x7F, 0xA1), 0xAD, 0x2000, 0x200B, 0x200D, 0x2028, 0x2029, 0x202E)
]
UNSEEN += [*"\u034f\u115f\u1160\u17b4\u2800\u3164\uffa0\ufeff\ue000\ufdd0\U00016fe4\U000e0041\U000e0101\U0001d159"]
UNSEEN += [chr(code) for code in range(0xFE00, 0xFE10)]


@pytest.mark.parametrize("letter", UNSEEN, ids=lambda letter: f"{ord(letter):04x}")
def test_a_file_among_images_brings_no_character_that_nobody_sees(says, letter):
    for command, name in (("caption", "prefix"), ("tag", "prefix"), ("tag", "tag-replacement")):
        ended = says(f'[{command}]\n{name} = "a,b{as_toml(letter)[1:-1]}c"\n', command)
        assert ended.code == 2, ended.out


REFUSED_VALUES = ["memory = 0", "image-timeout = inf", "image-timeout = nan", "general-threshold = nan"]
REFUSED_VALUES += ["threshold = 'x'", "ratings = 'x'", "category-threshold = ['x']", "prefix = ','", "max-tags = 0"]


@pytest.mark.parametrize("line", REFUSED_VALUES)
def test_a_value_that_its_option_refuses_is_told_with_its_file(says, imgs, line):
    ended = says(f"[tag]\n{line}\n")
    assert (ended.code, f"{imgs / 'sdprep.toml'}: {line.partition(' ')[0]}: " in ended.err) == (2, True), ended.err


CONTRADICTIONS = ["threshold = 0.0", "threshold = nan", "exclude = ['/(/']", "caption-separator = ''", "device = 'x'"]


@pytest.mark.parametrize("line", CONTRADICTIONS)
@pytest.mark.parametrize("explicit", [False, True])
def test_a_value_that_the_settings_refuse_is_told_with_its_file(sdprep_command, imgs, line, explicit):
    file = imgs / "sdprep.toml"
    file.write_text(f"[tag]\n{line}\nmax-tags = 5\n")
    ended = sdprep_command("tag", imgs, *(["--config", file] if explicit else []))
    assert (ended.code, str(file) in ended.err, line.partition(" ")[0] in ended.err) == (2, True, True), ended.err


def test_a_value_of_the_command_line_is_not_blamed_on_a_file(sdprep_command, imgs):
    (imgs / "sdprep.toml").write_text("[tag]\nthreshold = 0.0\n")
    for words in (["--threshold", "0"], ["--threshold", "0", "--preset", "kohya"]):
        ended = sdprep_command("tag", imgs, *words)
        assert (ended.code, "sdprep.toml" in ended.err) == (2, False), ended.err


def test_a_list_of_more_than_a_megabyte_is_refused_unread(says, imgs):
    for size, code in (((1 << 20), 0), ((1 << 20) + 1, 2)):
        (imgs / "x.csv").write_bytes(b"a" * size)
        for name in ("aliases", "implications", "tag-thresholds"):
            assert says(f"[tag]\n{name} = 'x.csv'\n").code == code


def test_a_path_beyond_the_limit_of_the_system_is_no_traceback(says):
    assert says(f"[tag]\naliases = '{'x' * 900}'\n").code == 0


def test_a_settings_file_that_is_too_large_is_refused_unread(says, imgs):
    ended = says("[tag]\n" + "#" * (16 << 10))
    assert (ended.code, "it is larger than 16,384 bytes" in ended.err) == (2, True)


@pytest.mark.parametrize(
    "value",
    [
        r"['1girl', '/((\w+)+)+!/']",
        r"'1girl, /((\w+)+)+!/'",
        r"[' /((\w+)+)+!/ ']",
        r"['/((\w+)+)+!/ ']",
        '["\\u00a0/a+!/"]',
        '["\\t/a+!/\\n"]',
    ],
)
def test_images_cannot_bring_regular_expressions(says, imgs, value):
    text = f"[tag]\nexclude = {value}\n"
    ended = says(text)
    assert (ended.code, "has a regular expression" in ended.err) == (2, True)
    assert says(text, "tag", "--config", imgs / "sdprep.toml").code == 0


@pytest.mark.parametrize("value", ["['1girl', '*_hair', 'a/b']", "'1girl, *_hair'"])
def test_images_may_exclude_tags(says, value):
    assert says(f"[tag]\nexclude = {value}\n").code == 0


def test_a_file_that_a_person_names_may_say_everything(says, imgs, tmp_path):
    text = f'[caption]\nallow-pickle = true\nmodel = "{tmp_path}"\noutput-dir = "{tmp_path}"\n'
    ended = says(text, "caption", "--config", imgs / "sdprep.toml")
    assert "allow-pickle = true  # --config" in ended.out


# A check sees what the run uses

BLANKS = st.text(st.sampled_from(" \t\n\u00a0\u3000,\\;=/*"), max_size=3)
PADDED = st.tuples(BLANKS, st.sampled_from(["", "a", "/a+/", "a*b", "x=0.5", "a,b;c"]), BLANKS).map("".join)


@pytest.mark.parametrize("command", SETTLED)
def test_a_check_sees_the_very_value_that_the_settings_hold(command, says, monkeypatch, request):
    seen, held = {}, {}

    def watched(name, check):
        def watching(built_in, value):
            seen[name] = value
            return check(built_in, value)

        return watching

    watching = {name: watched(name, check) for name, check in CHECKS.items()}
    monkeypatch.setattr("sdprep.tasks.options.untrusted.CHECKS", watching)
    monkeypatch.setattr(
        "sdprep.cli.show_config.effective",
        lambda ctx, stated: held.update({name: each.value for name, each in effective(ctx, stated).items()}) or {},
    )
    by_name = {option.name: option for option in options(command)}

    @settings(max_examples=request.config.getoption("--settings-files"), suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(st.sampled_from(sorted(by_name)), PADDED | st.lists(PADDED, max_size=3), max_size=3))
    def check(table):
        seen.clear()
        lines = "".join(f"{as_toml(name)} = {as_toml(value)}\n" for name, value in table.items())
        if says(f"[{command}]\n{lines}", command).code == 0:
            assert seen == {name: held[name] for name in table}

    check()


# Any settings file at all

ODD = st.text(
    st.sampled_from("ab,;=/.*?~\\:\"'()_\n\r\x00\x1b\x7f\x85\u200b\u202e\u2028\ufeff\U000e0041é青"), max_size=12
)
WORDS = [
    "",
    ".txt",
    ".caption",
    ".pth",
    "keep",
    "overwrite",
    "append",
    "../x",
    "/etc/passwd",
    "sub/x.csv",
    "auto",
    "mcut",
]
WORDS += [
    "cuda:0,1",
    "cpu,cpu",
    "demo-tag",
    "demo-caption",
    "owner/name",
    "x.toml",
    "/(a+)+$/",
    "*" * 900 + "Z",
    "a" * 2000,
]
TEXT = ODD | st.sampled_from(WORDS) | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
NUMBER = st.integers(-3, 100) | st.integers() | st.floats() | st.sampled_from([10**30, -(10**30), 10**400])
PLAIN = st.booleans() | NUMBER | TEXT
VALUE = (
    PLAIN
    | st.lists(PLAIN, max_size=4)
    | st.dictionaries(st.sampled_from("ab"), st.lists(PLAIN, max_size=2), max_size=2)
)


OF_THE_FILE = "  # sdprep.toml"


def as_toml(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {as_toml(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    if isinstance(value, float):
        return repr(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def taken(out):
    """The settings that a command took from the file, by name."""
    rows = [
        line.removesuffix("  # sdprep.toml").partition(" = ") for line in out.splitlines() if "# sdprep.toml" in line
    ]
    return {name: json.loads(value) for name, _, value in rows}


def texts(value):
    return [each for part in value for each in texts(part)] if isinstance(value, list) else [value]


def assert_harmless(name, value, option, folder):
    if not isinstance(option.type, click.Path) and name != "tag-thresholds":
        assert not any(has_hidden(each) for each in texts(value) if isinstance(each, str))
    assert name not in ("scores", "output", "in-json", "catalog", "model-dir")
    if name.endswith("extension"):
        assert value in (".txt", ".caption", "txt", "caption")
    if isinstance(option.type, click.Path):
        assert value.startswith(f"{folder}{os.sep}")
        assert ".." not in value
    if name in ("memory", "max-pixels", "batch-size", "workers", "num-beams", "max-length", "min-length", "captions"):
        assert 0 <= value <= option.default
    if name.startswith(("allow-", "force-")) or name in ("refresh", "prune"):
        assert value is False
    assert name != "existing" or value == "keep"


@pytest.mark.parametrize("command", SETTLED)
def test_any_settings_file_is_refused_in_plain_words_or_harmless(command, says, sdprep_command, tmp_path, request):
    (tmp_path / "empty").mkdir()
    by_name = {option.name.replace("_", "-"): option for option in options(command)}

    @settings(max_examples=request.config.getoption("--settings-files"), suppress_health_check=list(HealthCheck))
    @given(st.dictionaries(st.sampled_from(sorted(by_name)) | TEXT.map(lambda name: name or "x"), VALUE, max_size=3))
    def check(table):
        lines = "".join(f"{as_toml(name)} = {as_toml(value)}\n" for name, value in table.items())
        shown = says(f"[{command}]\n{lines}", command)
        assert (shown.code, "Traceback" in shown.err) in [(0, False), (2, False)], shown.err
        for name, value in taken(shown.out).items():
            assert_harmless(name, value, by_name[name], tmp_path / "imgs")
        (tmp_path / "empty" / "sdprep.toml").write_bytes((tmp_path / "imgs" / "sdprep.toml").read_bytes())
        ended = sdprep_command(command, "empty")
        assert ended.code in (2, 4), ended.err

    check()

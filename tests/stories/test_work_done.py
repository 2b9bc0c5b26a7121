"""How much work a run does, counted and not timed: files opened, images decoded, statements, modules loaded."""

import os
import re
import subprocess
import sys
from collections import Counter

import pytest
from PIL import Image

from sdprep.catalog.catalog import Catalog
from sdprep.catalog.schema import AT_ONCE
from sdprep.catalog.stated import user_key
from sdprep.images import decode
from sdprep.tasks.annotation import planner, writer
from tests.stories.telling import PYTHON, ROOT, caption, counts, tag, write

HEAVY = {"numpy", "torch", "transformers", "onnxruntime", "tensorflow", "huggingface_hub", "tqdm"}
# Of the audited calls, those that look at or change files. Looking for the size or the mode of a file is not audited.
CALLS = {"open", "os.rename", "os.remove", "os.chmod", "os.mkdir", "os.scandir", "os.listdir"}
# A statement for each row: the text before and after, the state, the intent, what is known, the outcome.
STATEMENTS_A_TEXT = 9
heard = []


def receive(event, arguments):
    if heard and event in CALLS:
        heard[0].append((event, [os.fspath(each) for each in arguments if isinstance(each, str | os.PathLike)]))


# A hook cannot be taken away again; it listens only while a test wants it to.
sys.addaudithook(receive)


def calls(act, ending):
    """What an act does to the files of this ending, by the name of the call; in a rename the old name counts too."""
    found = []
    heard.append(found)
    try:
        act()
    finally:
        heard.clear()
    return Counter(event for event, paths in found if any(path.endswith(ending) for path in paths))


@pytest.fixture
def statements(monkeypatch):
    """A list that receives every statement that a catalog is given, with its values."""
    said, prepare = [], Catalog._prepare

    def overheard(self):
        prepare(self)
        self.db.set_trace_callback(said.append)

    monkeypatch.setattr(Catalog, "_prepare", overheard)
    return said


def pictures(folder, count):
    folder.mkdir()
    for number in range(count):
        Image.new("RGB", (8, 8), (number, 90, 90)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def few(tmp_path):
    return pictures(tmp_path / "few", 4)


@pytest.fixture
def more(tmp_path):
    return pictures(tmp_path / "more", 12)


def said_of(folder, statements, **explicit):
    statements.clear()
    tag(folder, **explicit)
    return list(statements)


# Images


def test_a_first_run_reads_the_header_of_an_image_and_decodes_it_once(few, monkeypatch):
    decoded, real = [], decode._open_rgb
    monkeypatch.setattr(decode, "_open_rgb", lambda *given: decoded.append(given) or real(*given))

    # Once for the header, which says how much memory the image takes, and once for all of it.
    assert calls(lambda: tag(few), ".png") == {"open": 2 * 4}
    assert len(decoded) == 4


def test_an_up_to_date_run_opens_no_image(few):
    tag(few)

    assert calls(lambda: tag(few), ".png") == {}


def test_an_image_with_another_time_is_read_once_and_then_known(few):
    tag(few)
    os.utime(few / "1.png", ns=(1, 1))

    assert [calls(lambda: tag(few), ".png") for _ in range(2)] == [{"open": 1}, {}]


def test_another_threshold_opens_no_image(few):
    tag(few)

    assert calls(lambda: tag(few, threshold=0.5), ".png") == {}


# Texts


def test_an_up_to_date_run_opens_each_text_once(few):
    tag(few)

    assert calls(lambda: tag(few), ".txt") == {"open": 4}


def test_an_edit_that_keeps_size_and_time_is_noticed(few):
    tag(few)
    before = (few / "1.txt").stat()
    text = (few / "1.txt").read_text(encoding="utf-8")
    write(few / "1.txt", text.swapcase())
    os.utime(few / "1.txt", ns=(before.st_atime_ns, before.st_mtime_ns))

    assert counts(tag(few)) == {"current": 3, "kept": 1}


def test_a_text_that_is_written_costs_two_looks_and_one_rename(few):
    def run():
        assert tag(few, threshold=0.5, prefix=("new",)).written == 4

    tag(few)

    assert calls(run, ".txt") == {"open": 8, "os.rename": 4}


def test_the_temporary_file_of_a_text_is_written_synced_given_a_mode_and_renamed(few):
    user_key()
    tag(few)

    made = calls(lambda: tag(few, threshold=0.5, prefix=("new",)), ".tmp")

    # The owner of the lock is written, too; what an earlier run may have left of it is removed.
    owner = {"open": 1, "os.rename": 1, "os.remove": 1}
    assert made == Counter({"open": 2 * 4, "os.chmod": 4, "os.rename": 4}) + Counter(owner)


# The catalog


def test_an_up_to_date_run_asks_as_much_about_twelve_images_as_about_four(few, more, statements):
    tag(few)
    tag(more)

    assert len(said_of(few, statements)) == len(said_of(more, statements)) <= 20


def test_images_that_are_kept_are_asked_about_together_too(few, more, statements):
    for folder in (few, more):
        tag(folder)
        for path in folder.glob("*.txt"):
            write(path, "mine")

    assert len(said_of(few, statements)) == len(said_of(more, statements)) <= 20


def transactions(said):
    return [each for each in said if each.startswith("BEGIN")]


def test_texts_are_written_in_two_transactions_however_many(few, more, statements):
    tag(few)
    tag(more)

    both = [transactions(said_of(folder, statements, prefix=("new",))) for folder in (few, more)]

    # The third notes the end of the run.
    assert [len(each) for each in both] == [3, 3]


def test_a_text_costs_a_bounded_number_of_statements(few, more, statements):
    tag(few)
    tag(more)

    small, large = [len(said_of(folder, statements, prefix=("new",))) for folder in (few, more)]

    assert large - small <= (12 - 4) * STATEMENTS_A_TEXT


def forget_texts(folder):
    catalog = Catalog(folder / ".sdprep" / "catalog.sqlite", folder)
    with catalog.transaction():
        catalog.db.execute("DELETE FROM sidecars")
    catalog.close()


def test_texts_that_are_adopted_share_a_transaction(few, more, statements):
    for folder in (few, more):
        tag(folder)
        forget_texts(folder)

    both = [said_of(folder, statements) for folder in (few, more)]

    # The second notes the end of the run.
    assert [len(transactions(said)) for said in both] == [2, 2]
    assert all("INSERT OR REPLACE INTO sidecars" in "".join(said) for said in both)


def test_groups_are_written_and_asked_about_at_their_bounds(more, statements, monkeypatch):
    tag(more)
    monkeypatch.setattr(writer, "COMMIT_IMAGES", 5)
    monkeypatch.setattr(planner, "CHUNK", 3)

    said = said_of(more, statements, prefix=("new",))

    assert len(transactions(said)) == 2 * 3 + 1
    assert len([each for each in said if "FROM sidecars JOIN" in each]) == 4


def test_no_more_is_asked_about_at_once_than_a_query_has_room_for():
    assert planner.CHUNK <= AT_ONCE


def test_no_statement_of_a_run_searches_a_table_without_its_index(few, statements):
    """So nothing takes longer because the catalog has a long history."""
    said = [*said_of(few, statements), *said_of(few, statements), *said_of(few, statements, prefix=("new",))]
    (few / "1.png").write_bytes(b"broken")
    said += [*said_of(few, statements), *said_of(few, statements)]
    caption(few)
    said += statements
    asked = [each for each in said if re.match("SELECT|UPDATE|DELETE|INSERT", each)]
    catalog = Catalog(few / ".sdprep" / "catalog.sqlite", few)
    plans = {each: catalog.db.execute(f"EXPLAIN QUERY PLAN {each}").fetchall() for each in asked}
    catalog.close()

    assert len(plans) > 20
    # Settings are few. Images are counted, and their sizes or hashes read, once per run and not once per image.
    whole = {
        each
        for each in plans
        if "LIMIT 1" in each or re.search(r"FROM stated|(count\(\*\)|size|key, digest) FROM images *$", each)
    }
    assert [row for each in plans.keys() - whole for row in plans[each] if row[3].startswith("SCAN")] == []


# Modules


def loaded_by(*arguments, **environment):
    """The packages and modules that a command line has loaded when it ends."""
    code = (
        "import sys\nfrom sdprep.cli.main import main\n"
        f"sys.argv = {['sdprep', *map(str, arguments)]!r}\n"
        "try:\n    main()\nexcept SystemExit as end:\n    code = end.code\n"
        "print('\\n', code, *sys.modules)"
    )
    done = subprocess.run(
        [PYTHON, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env={**os.environ, **environment}
    )
    code, *modules = done.stdout.splitlines()[-1].split()
    assert code in ("0", "None")
    return {name.split(".")[0] for name in modules} | ({"PIL.Image"} & set(modules))


@pytest.mark.parametrize("command", ["tag", "caption"])
def test_an_up_to_date_run_loads_no_framework_and_no_numpy(few, command):
    (tag if command == "tag" else caption)(few)

    loaded = loaded_by(command, few, "--model", f"demo-{command}", *(["--num-beams", "1"] * (command == "caption")))

    assert loaded.isdisjoint({*HEAVY, "PIL.Image"})


def test_a_merge_of_texts_alone_loads_no_pillow(few):
    tag(few)

    assert loaded_by("merge", few, "--fields", "tags").isdisjoint({*HEAVY, "PIL.Image"})


@pytest.mark.parametrize("asked", ["bash_source", "zsh_source", "fish_source"])
def test_the_script_for_completion_loads_no_framework(asked):
    assert loaded_by(_SDPREP_COMPLETE=asked).isdisjoint(HEAVY)


def test_completion_loads_no_framework():
    loaded = loaded_by(_SDPREP_COMPLETE="bash_complete", COMP_WORDS="sdprep tag --thr", COMP_CWORD="2")

    assert loaded.isdisjoint(HEAVY)

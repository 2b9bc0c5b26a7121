"""The page's questions and their answers."""

import asyncio
import io
import re
import threading

import pytest
from PIL import Image

from sdprep.catalog.session import AccessMode, CatalogAccess, CatalogSession
from sdprep.config import MergeSettings
from sdprep.report import NullListener
from sdprep.review.app import STATIC
from sdprep.review.decoder import Decoders
from sdprep.rules.edits.operations import Operation
from sdprep.tasks.history.diff import diff
from sdprep.tasks.history.runs import folded, log
from sdprep.tasks.history.undo import undo
from sdprep.tasks.review.index import Index
from sdprep.tasks.review.review import Review
from sdprep.tasks.texts.edit import plan as plan_edit
from sdprep.tasks.texts.plan import GROUP, apply
from sdprep.trainers.findings import ABOUT
from tests.review.conftest import NAMES, TAGS


def tags(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.txt"))}


def edit(folder, name, value):
    """A run of `sdprep edit` beside the page."""
    return apply(plan_edit(folder, [Operation(name, value)]))


def changes_of(folder, run):
    with diff(folder, run) as (_, changes):
        return list(changes)


# Looking


def test_the_page_has_the_browser_ask_for_all_its_modules_at_once(page):
    imported = {path.name for path in STATIC.glob("*.js") if not path.name.startswith("messages.")}

    assert set(re.findall(r'"static/(\w+\.js)"', page.get("").text)) == imported


def test_the_page_is_told_what_folder_it_shows(page):
    about = page.get("api/folder").json()

    assert (about["name"], about["found"], about["tag_extension"]) == ("imgs", 4, ".txt")
    assert about["is_read_only"] is False


def test_a_view_has_the_numbers_of_the_images_that_match(page):
    assert page.view() == [0, 1, 2, 3]
    assert page.view("tag:hat") == [0, 2]
    assert page.view("missing:tags") == [3]
    assert page.view("width>10000") == []


@pytest.mark.parametrize(("near", "rows"), [(2, [0, 2, 3]), (1, [0, 2])])
def test_a_view_brings_the_rows_around_the_current_image_or_the_first_ones(folder, open_page, near, rows):
    (folder / "d.txt").write_bytes(b"hat\n")

    numbers, found = open_page().view_with_rows("tag:hat", near, rows=2)

    assert numbers == [0, 2, 3]
    assert [row["number"] for row in found] == rows
    assert found[0]["tags"]["list"] == ["1girl", "hat"]


def test_a_filter_that_cannot_be_read_is_refused_with_the_place_of_the_fault(page):
    answer = page.get("api/view", where="tag:hat AND (")

    assert answer.status_code == 422
    assert answer.json()["at"] == len("tag:hat AND (")


def test_a_row_has_the_texts_with_their_hashes_and_sources(page):
    row = page.row(0)

    assert row["path"] == "a.png"
    assert row["tags"]["list"] == ["1girl", "hat"]
    assert row["tags"]["source"] == "user"
    assert row["caption"]["text"] == "A girl with a hat."
    assert row["tokens"] > 0
    assert row["width"] > 0


def test_a_sidecar_that_is_not_there_has_no_hash(page):
    row = page.row(3)

    assert row["tags"] | {"list": []} == row["tags"]
    assert (row["tags"]["exists"], row["tags"]["hash"], row["tags"]["source"]) == (False, "", "")


def test_a_sidecar_behind_a_link_out_of_the_folder_is_a_failure_of_its_row(folder, tmp_path, open_page):
    (tmp_path / "secret").write_text("secret\n")
    (folder / "d.txt").symlink_to(tmp_path / "secret")
    page = open_page()

    row = page.row(3)

    assert "link" in row["tags"]["failure"]
    assert row["tags"]["text"] == ""
    assert page.row(0)["tags"]["failure"] is None


def test_counted_tags_are_spelled_as_in_the_files(folder, open_page):
    (folder / "d.txt").write_bytes(b"long_hair\n")

    assert ["long_hair", 1] in open_page().get("api/counts").json()["counts"]


def test_tags_are_counted_over_all_a_filter_and_a_selection(page):
    assert dict(page.get("api/counts").json()["counts"]) == {"1girl": 2, "hat": 2, "smile": 1, "1boy": 1}
    assert page.get("api/counts", where="tag:smile").json() == {"of": 1, "counts": [["1girl", 1], ["smile", 1]]}
    assert page.post("api/counts", numbers=[2]).json() == {"of": 1, "counts": [["hat", 1], ["1boy", 1]]}


def test_suggestions_come_from_the_dataset_first_and_then_from_the_list(tmp_path, open_page):
    listed = tmp_path / "tags.csv"
    listed.write_text('hat_ribbon,0,500,\nwitch_hat,0,900,"pointy_hat,wizard_hat"\nhat,0,9,\n', encoding="utf-8")
    page = open_page(tag_list=listed)

    found = page.get("api/suggest", q="hat").json()["suggestions"]
    by_alias = page.get("api/suggest", q="wizard").json()["suggestions"]

    assert [each["tag"] for each in found] == ["hat", "hat ribbon", "witch hat"]
    assert found[0]["count"] == 2
    assert by_alias == [{"tag": "witch hat", "count": 0, "alias": "wizard hat"}]


def test_a_thumbnail_is_a_small_webp_and_the_large_view_a_jpeg(page):
    small, large = page.get("thumb/0"), page.get("picture/0")

    assert max(Image.open(io.BytesIO(small.content)).size) <= 384
    assert (small.headers["content-type"], large.headers["content-type"]) == ("image/webp", "image/jpeg")


def test_an_image_that_cannot_be_decoded_has_a_reason_and_the_others_their_thumbnails(folder, open_page):
    (folder / "b.png").write_bytes(b"no image")
    page = open_page()

    answer = page.get("thumb/1")

    assert answer.status_code == 404
    assert answer.json()["message"]
    assert page.get("thumb/0").status_code == 200


def test_the_thumbnail_of_an_image_that_is_being_moved_is_made_at_its_new_place(folder, open_page, monkeypatch):
    page, is_moved, is_asked_for = open_page(), threading.Event(), threading.Event()
    move, copy = Index.move, Decoders.copy

    def late_move(self, *given):
        is_moved.set()
        is_asked_for.wait(20)
        move(self, *given)

    async def noted_copy(self, *given):
        made = await copy(self, *given)
        is_asked_for.set()
        return made

    monkeypatch.setattr(Index, "move", late_move)
    monkeypatch.setattr(Decoders, "copy", noted_copy)
    rejecting = threading.Thread(target=page.post, args=("api/mark",), kwargs={"numbers": [0], "is_rejected": True})
    rejecting.start()
    assert is_moved.wait(20)

    answer = page.get("thumb/0")

    rejecting.join()
    assert answer.status_code == 200


@pytest.mark.parametrize("kind", ["thumb", "picture"])
def test_an_image_that_is_moved_away_and_back_while_it_is_copied_is_still_shown(open_page, monkeypatch, kind):
    page, copy, rejections = open_page(), Decoders.copy, [True, False]

    async def mark(is_rejected):
        await asyncio.to_thread(page.post, "api/mark", numbers=[0], is_rejected=is_rejected)

    async def overtaken_copy(self, *given):
        """A copy which finds that its image was moved away, and is told so when it is back."""
        if not rejections:
            return await copy(self, *given)
        await mark(rejections.pop(0))
        made = await copy(self, *given)
        await mark(rejections.pop(0))
        return made

    monkeypatch.setattr(Decoders, "copy", overtaken_copy)

    assert page.get(f"{kind}/0").status_code == 200


@pytest.mark.parametrize(
    "path", ["thumb/4", "picture/99", "thumb/-1", "static/app.py", "static/..%2fapp.py", "nothing"]
)
def test_what_is_not_there_is_404(page, path):
    assert page.get(path).status_code == 404


# One text


def test_a_text_is_written_as_one_run_that_undo_takes_back(page, folder):
    answer = page.put(0, "tags", "1girl, hat, solo")

    assert answer.status_code == 200
    assert (folder / "a.txt").read_bytes() == b"1girl, hat, solo\n"
    assert answer.json()["row"]["tags"]["list"] == ["1girl", "hat", "solo"]
    assert answer.json()["run"] == log(folder)[-1].uid
    undo(folder)
    assert tags(folder) == TAGS


def test_a_text_keeps_its_encoding_its_line_ends_and_its_mark(page, folder):
    page.put(1, "tags", "1girl,grin")
    page.put(2, "tags", "hat; 1boy; solo")

    assert (folder / "b.txt").read_bytes() == b"1girl,grin\r\n"
    assert (folder / "c.txt").read_bytes() == b"\xef\xbb\xbfhat; 1boy; solo"


def test_a_text_for_an_image_without_one_makes_the_file_and_undo_removes_it(page, folder):
    assert page.put(3, "tags", "dog").status_code == 200
    assert (folder / "d.txt").read_bytes() == b"dog\n"
    undo(folder)
    assert not (folder / "d.txt").exists()


@pytest.mark.parametrize(("number", "text"), [(0, "1girl, hat"), (1, "1girl,smile"), (2, "hat; 1boy"), (3, "")])
def test_a_text_that_changes_nothing_makes_no_run_and_no_catalog(page, folder, number, text):
    assert page.put(number, "tags", text).json()["run"] is None
    assert not (folder / ".sdprep").exists()


def test_a_text_that_another_program_has_changed_is_not_written(page, folder):
    shown = page.row(0)["tags"]["hash"]
    (folder / "a.txt").write_bytes(b"1girl, cat\n")

    answer = page.put(0, "tags", "1girl, hat, solo", shown)

    assert answer.status_code == 412
    assert answer.json()["row"]["tags"]["text"] == "1girl, cat"
    assert (folder / "a.txt").read_bytes() == b"1girl, cat\n"


def test_a_text_without_the_hash_of_what_was_shown_is_refused(page):
    answer = page.client.put(f"{page.base}/api/text/0/tags", json={"text": "x"})

    assert answer.status_code == 428


def test_an_operation_on_one_text_is_done_at_once_as_one_run(page, folder):
    answer = page.operate(1, "add", "hat").json()

    assert (folder / "b.txt").read_bytes() == b"1girl,smile,hat\r\n"
    assert answer["row"]["tags"]["list"] == ["1girl", "smile", "hat"]
    assert answer["hash"] == answer["row"]["tags"]["hash"]
    assert answer["run"] == log(folder)[-1].uid
    assert log(folder)[-1].stated == {"add": "hat"}


def test_an_operation_that_changes_nothing_makes_no_run(page):
    answer = page.operate(0, "add", "hat").json()

    assert (answer["run"], answer["hash"], answer["row"]["tags"]["list"]) == (None, None, ["1girl", "hat"])


def test_an_operation_is_done_after_one_that_the_page_has_made_itself(page, folder):
    shown = page.row(0)["tags"]["hash"]
    written = page.operate(0, "add", "solo", shown).json()["hash"]

    assert page.operate(0, "add", "smile", shown, written).status_code == 200
    assert (folder / "a.txt").read_bytes() == b"1girl, hat, solo, smile\n"


def test_an_operation_on_a_text_that_has_changed_is_not_done_and_the_answer_has_what_it_would_give(page, folder):
    shown = page.row(0)["tags"]["hash"]
    (folder / "a.txt").write_bytes(b"1girl, cat\n")

    answer = page.operate(0, "add", "solo", shown)

    assert answer.status_code == 412
    assert (answer.json()["row"]["tags"]["text"], answer.json()["text"]) == ("1girl, cat", "1girl, cat, solo")
    assert (folder / "a.txt").read_bytes() == b"1girl, cat\n"


def test_an_operation_on_a_text_that_cannot_be_edited_is_refused_with_the_reason(page, folder):
    (folder / "a.txt").write_bytes(b"\xff\xfe\xff")

    answer = page.operate(0, "add", "solo")

    assert answer.status_code == 422
    assert "a.txt" in answer.json()["message"]


def test_while_another_run_is_at_work_nothing_is_written_and_afterwards_it_is(page, folder):
    shown = page.row(0)["tags"]["hash"]
    page.put(1, "tags", "1girl,grin")
    with CatalogSession([folder], CatalogAccess("tag", AccessMode.ADD, NullListener().note)) as other:
        other.of(folder)
        answer = page.put(0, "tags", "1girl, solo", shown)

        assert answer.status_code == 423
        assert "sdprep tag" in answer.json()["message"]
        assert (folder / "a.txt").read_bytes() == TAGS["a.txt"]
    assert page.put(0, "tags", "1girl, solo", shown).status_code == 200


def test_a_catalog_that_was_deleted_meanwhile_is_made_anew(page, folder):
    page.put(0, "tags", "1girl")
    for path in (folder / ".sdprep").glob("catalog*"):
        path.unlink()

    assert page.put(0, "tags", "1girl, hat").status_code == 200
    assert [entry.changed for entry in log(folder)] == [1]


def test_markup_and_long_texts_come_back_as_they_are(page, folder):
    text = "<script>alert(1)</script> \u202eabc " + "x" * 100_000

    page.put(0, "caption", text)

    assert page.row(0)["caption"]["text"] == text
    assert (folder / "a.caption").read_text(encoding="utf-8") == text + "\n"


# Many texts


def test_a_plan_shows_what_it_would_change_and_writes_nothing(page, folder):
    plan = page.plan("add", "solo")

    assert (plan["changes"], plan["of"], plan["missing"]) == (3, 4, 1)
    assert (
        plan["samples"][0] | {"path": "a.png", "before": "1girl, hat\n", "after": "1girl, hat, solo\n"}
        == plan["samples"][0]
    )
    assert plan["samples"][0]["parts"] == [{"text": "1girl, hat", "kind": "same"}, {"text": "solo", "kind": "added"}]
    assert tags(folder) == TAGS


def test_what_a_plan_shows_is_what_is_written_and_undo_and_redo_are_runs(page, folder):
    plan = page.plan("replace", "hat=cap")
    shown = {sample["path"]: sample["after"] for sample in plan["samples"]}

    done = page.post("api/apply", plan=plan["plan"]).json()

    assert (done["written"], done["left"]) == (2, [])
    assert shown == {"a.png": "1girl, cap\n", "c.png": "cap; 1boy"}
    assert tags(folder)["c.txt"] == b"\xef\xbb\xbfcap; 1boy"
    undone = page.post("api/undo", run=done["run"]).json()
    assert tags(folder) == TAGS
    page.post("api/undo", run=undone["run"])
    assert tags(folder)["a.txt"] == b"1girl, cap\n"
    assert [each["is_undone"] for each in page.get("api/session").json()["runs"]] == [False, True, False]


def test_a_plan_is_applied_once(page):
    plan = page.plan("add", "solo")["plan"]
    page.post("api/apply", plan=plan)

    assert page.post("api/apply", plan=plan).status_code == 410


def test_a_file_that_changed_after_the_plan_is_left_and_named(page, folder):
    plan = page.plan("add", "solo")["plan"]
    (folder / "a.txt").write_bytes(b"cat\n")

    done = page.post("api/apply", plan=plan).json()

    assert (done["written"], [each["path"] for each in done["left"]]) == (2, ["a.png"])
    assert (folder / "a.txt").read_bytes() == b"cat\n"


def test_a_plan_for_a_filter_is_about_the_images_that_match(page):
    body = {"kind": "tags", "where": "tag:smile", "operation": {"name": "remove", "value": "1girl"}}

    assert page.post("api/plan", **body).json()["changes"] == 1


@pytest.mark.parametrize(
    ("operation", "status"), [({"name": "add", "value": ""}, 422), ({"name": "explode", "value": "x"}, 400)]
)
def test_an_operation_that_makes_no_sense_is_refused(page, operation, status):
    assert page.post("api/plan", numbers=[0], kind="tags", operation=operation).status_code == status


def test_a_run_of_another_session_is_not_undone(page):
    assert page.post("api/undo", run="20200101-000000-abcd").status_code == 422


def test_changes_of_this_page_of_others_and_of_other_runs_are_told(page, folder):
    page.row(1)
    state = page.get("api/changes", since=0).json()["state"]
    page.put(0, "tags", "solo")
    (folder / "b.txt").write_bytes(b"something else\n")

    found = page.get("api/changes", since=state).json()

    assert found["numbers"] == [0, 1]
    assert page.get("api/changes", since=found["state"]).json()["numbers"] == []
    undo(folder)
    assert page.get("api/changes", since=found["state"]).json()["numbers"] == [0]
    assert page.view("tag:something*") == [1]


# Sessions


def test_a_session_is_one_line_of_the_log_and_undo_takes_all_of_it_back(page, folder):
    page.put(0, "tags", "1girl, solo")
    page.edit("add", "best")
    page.post("api/undo", run=page.put(3, "tags", "dog").json()["run"])
    session = page.get("api/folder").json()["session"]

    [entry] = folded(log(folder))

    assert (entry.uid, entry.command, len(entry.uids)) == (session, "review", 4)
    report = undo(folder, session)
    assert report.failed == 0
    assert tags(folder) == TAGS


def test_what_another_program_wrote_during_a_session_survives_the_undo_of_the_session(page, folder):
    page.put(0, "tags", "1girl, solo")
    (folder / "a.txt").write_bytes(b"my own\n")
    page.put(0, "tags", "my own, best")

    report = undo(folder, page.review.session)

    assert (folder / "a.txt").read_bytes() == b"my own\n"
    assert report.failed == 1


# A folder that cannot be written


def test_a_read_only_folder_is_shown_and_says_so(folder, open_page, monkeypatch):
    monkeypatch.setattr("sdprep.tasks.review.review.write_obstacle", lambda *_: PermissionError(13, "no"))

    page = open_page()

    assert page.get("api/folder").json()["is_read_only"] is True
    assert page.view("tag:hat") == [0, 2]
    assert page.get("thumb/0").status_code == 200


def test_sidecars_elsewhere_are_written_there(folder, tmp_path, open_page):
    from sdprep.config import PathOptions

    page = open_page(settings=MergeSettings(paths=PathOptions(output_dir=tmp_path / "out")))
    done = page.put(0, "tags", "1girl").json()

    assert (tmp_path / "out" / "a.txt").read_bytes() == b"1girl\n"
    assert tags(folder) == TAGS
    assert page.post("api/undo", run=done["run"]).json()["written"] == 1
    assert len(NAMES) == len(page.view())


def test_what_a_run_writes_in_a_folder_with_a_catalog_of_its_own_is_told(folder, open_page, put_image):
    put_image(folder / "sub" / "e.png").with_suffix(".txt").write_text("cat\n")
    edit(folder / "sub", "add", "first")
    page = open_page()
    state = page.get("api/changes", since=0).json()["state"]

    edit(folder / "sub", "add", "second")

    found = page.get("api/changes", since=state).json()["numbers"]
    assert [page.row(number)["path"] for number in found] == ["sub/e.png"]
    assert page.view("tag:second") == found


def test_a_stopped_edit_leaves_the_rest_as_it_is_and_undo_takes_back_what_was_done(folder, open_page, put_image):
    for number in range(2 * GROUP):
        put_image(folder / f"n{number}.png").with_suffix(".txt").write_text("cat\n")
    page = open_page()
    numbers = page.view("tag:cat")
    plan = page.plan("add", "new", numbers=numbers)["plan"]
    listener = page.review.progress
    advance = listener.advance

    def stop_then_advance(count=1):
        assert page.post("api/stop").status_code == 200
        advance(count)

    listener.advance = stop_then_advance
    done = page.post("api/apply", plan=plan).json()

    assert (done["written"], done["remaining"]) == (GROUP, GROUP)
    assert page.get("api/progress").json() == {"done": GROUP, "of": 2 * GROUP}
    listener.advance = advance
    assert page.post("api/undo", run=done["run"]).json()["written"] == GROUP
    assert len(page.view("tag:new")) == 0


def test_an_editor_that_rewrites_a_text_all_the_time_loses_nothing_that_was_not_shown(page, folder):
    path, texts, over = folder / "a.txt", [], threading.Event()

    def rewrite():
        while not over.is_set():
            texts.append(f"mine {len(texts)}\n")
            temporary = folder / "editor.tmp"
            temporary.write_text(texts[-1])
            temporary.replace(path)

    editor = threading.Thread(target=rewrite)
    editor.start()
    statuses = []
    for number in range(30):
        shown = page.row(0)["tags"]
        answer = page.put(0, "tags", f"page {number}", shown["hash"])
        statuses.append(answer.status_code)
        if answer.status_code == 200 and answer.json()["run"]:
            before = [each.before for each in changes_of(folder, answer.json()["run"])]
            assert [text.rstrip("\n") for text in before] == [shown["text"]]
    over.set()
    editor.join()

    assert set(statuses) <= {200, 412}


def test_other_questions_are_answered_while_a_filter_reads_all_images(page, monkeypatch):
    begun, may_end, read_for = threading.Event(), threading.Event(), Review.read_for

    def read_until_told(self, where):
        is_read = read_for(self, where)
        if where != "tokens>0":
            return is_read
        begun.set()
        return is_read and may_end.is_set()

    monkeypatch.setattr(Review, "read_for", read_until_told)
    found = []
    slow = threading.Thread(target=lambda: found.extend(page.view("tokens>0")))
    slow.start()
    try:
        assert begun.wait(60)
        assert page.view("tag:hat") == [0, 2]
        assert page.row(1)["path"] == "b.png"
        assert page.get("api/suggest", q="smi").json()["suggestions"][0]["tag"] == "smile"
        assert found == []
    finally:
        may_end.set()
        slow.join()
    assert found == [0, 1, 2]


def test_what_a_filter_asks_about_is_read_some_images_at_a_time(page, monkeypatch):
    monkeypatch.setattr("sdprep.tasks.review.index.CHUNK", 1)

    assert [page.review.read_for("width>0") for _ in NAMES] == [False, False, False, True]
    assert page.review.read_for("height>0") is False
    assert page.review.read_for("width>0") is True
    assert page.view("height>0 AND width>0") == [0, 1, 2, 3]
    page.review.close()


def test_every_finding_has_its_sentence_in_chinese():
    sentences = (STATIC / "messages.zh-CN.js").read_text(encoding="utf-8").partition("export const findings")[2]

    assert re.findall(r"^  (\w+): \".+\",$", sentences, re.MULTILINE) == [code.value for code in ABOUT]

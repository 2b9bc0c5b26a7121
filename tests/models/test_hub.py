"""The real huggingface_hub client against a small Hub on 127.0.0.1."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from sdprep.errors import HubError, ModelError
from sdprep.models import hub as hub_module
from sdprep.models import lock as lock_module
from sdprep.models.base import ImageSpec, LabelSpec, ModelFiles, ModelSpec, Source
from sdprep.models.hub import fetch, identity, locate
from sdprep.models.lock import lock_path, weights_of
from sdprep.types import Silent
from tests.models.fake_hub import COMMITS, REPO, FakeHub

MODEL, LABELS = "model.onnx", "selected_tags.csv"
OLD = {MODEL: b"weights " * 1000, LABELS: b"tag_id,name,category,count\n"}
NEW = {MODEL: b"better weights " * 1000, LABELS: OLD[LABELS]}
CANARY = "hf_canaryThatMustNotSing"


class Notes(Silent):
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def note(self, message: str) -> None:
        self.heard.append(message)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home of its own; huggingface_hub has read its environment long before a test runs."""
    monkeypatch.setattr(lock_module, "user_data_path", lambda app: tmp_path / "data" / app)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(tmp_path / "harnesses.json"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", CANARY)
    yield tmp_path
    huggingface_hub.close_session()


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    revisions = {"main": COMMITS[0], **{commit: commit for commit in COMMITS}}
    with FakeHub({COMMITS[0]: dict(OLD), COMMITS[1]: dict(NEW)}, revisions) as fake:
        use_endpoint(monkeypatch, fake.url)
        yield fake


def use_endpoint(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", url + "/{repo_id}/resolve/{revision}/{filename}")


def a_spec(revision: str = "main", source: Source | None = None) -> ModelSpec:
    labels = LabelSpec(file=LABELS, categories={"general": 0})
    return ModelSpec(
        name="tagger",
        task="tag",
        backend="onnx",
        source=source or Source(repo=REPO, revision=revision),
        files=(MODEL, LABELS),
        image=ImageSpec(fit="pad"),
        labels=labels,
    )


def weights(files: dict[str, bytes]) -> str:
    return weights_of({name: hashlib.sha256(data).hexdigest() for name, data in files.items()})


def content(files: ModelFiles) -> dict[str, bytes]:
    return {name: (files.folder / name).read_bytes() for name in (MODEL, LABELS)}


def failure(spec: ModelSpec) -> str:
    """The message of a fetch that fails; no message has more than two lines or a secret."""
    with pytest.raises(HubError) as caught:
        fetch(spec, Silent())
    message = str(caught.value)
    assert message.count("\n") <= 1
    assert CANARY not in message
    return message


def test_a_model_is_downloaded_verified_and_found_again_without_network(hub: FakeHub) -> None:
    listener = Notes()
    assert locate(a_spec()) is None
    files = fetch(a_spec(), listener)
    assert content(files) == OLD
    assert (files.revision, files.weights) == (COMMITS[0], weights(OLD))
    assert [note.split(" to ")[0] for note in listener.heard] == [f"downloading {REPO} (0.0 MB)"]
    hub.requests.clear()
    assert locate(a_spec()) == fetch(a_spec(), listener) == files
    assert hub.requests == []


def test_the_token_goes_to_the_hub_and_nowhere_else(hub: FakeHub, capfd: pytest.CaptureFixture[str]) -> None:
    fetch(a_spec(), Silent())
    assert f"Bearer {CANARY}" in hub.tokens
    assert CANARY not in "".join(capfd.readouterr())
    assert CANARY not in lock_path().read_text()


def test_no_progress_bar_is_drawn_where_stderr_is_no_terminal(hub: FakeHub, capfd: pytest.CaptureFixture[str]) -> None:
    fetch(a_spec(), Silent())
    assert capfd.readouterr() == ("", "")


def test_a_branch_keeps_its_commit_although_the_hub_moves_on(hub: FakeHub, home: Path) -> None:
    first = fetch(a_spec(), Silent())
    hub.revisions["main"] = COMMITS[1]
    assert fetch(a_spec(), Silent()) == first
    (home / "cache").rename(home / "lost")
    again = fetch(a_spec(), Silent())
    assert again == first
    assert content(again) == OLD
    assert content(fetch(a_spec(COMMITS[1]), Silent())) == NEW


def test_another_file_of_a_locked_commit_is_added_to_the_lock(hub: FakeHub) -> None:
    fetch(a_spec(), Silent())
    hub.files[COMMITS[0]]["extra.txt"] = b"more"
    larger = ModelSpec(
        **{name: getattr(a_spec(), name) for name in a_spec().__struct_fields__}
        | {"files": (MODEL, LABELS, "extra.txt")}
    )
    assert locate(larger) is None
    hub.requests.clear()
    assert (fetch(larger, Silent()).folder / "extra.txt").read_bytes() == b"more"
    assert hub.downloads == ["extra.txt"]
    assert locate(a_spec()) is not None


def test_a_lock_without_its_files_is_not_a_model(hub: FakeHub) -> None:
    files = fetch(a_spec(), Silent())
    (files.folder / MODEL).unlink()
    assert locate(a_spec()) is None
    (files.folder / MODEL).write_bytes(b"cut")
    assert locate(a_spec()) is None


def test_a_damaged_file_of_the_cache_is_downloaded_again(hub: FakeHub) -> None:
    files = fetch(a_spec(), Silent())
    (files.folder / MODEL).resolve().write_bytes(b"bit rot")
    assert content(fetch(a_spec(), Silent())) == OLD


def test_a_file_that_is_not_what_the_hub_says_is_refused_and_deleted(hub: FakeHub, home: Path) -> None:
    hub.tampered[MODEL] = b"malware " * 1000
    message = failure(a_spec())
    assert MODEL in message
    assert "SHA-256" in message
    assert not list(home.glob(f"cache/**/{MODEL}"))
    assert not lock_path().exists()
    hub.tampered.clear()
    assert content(fetch(a_spec(), Silent())) == OLD


def test_a_file_that_is_not_what_was_locked_is_refused_even_if_the_hub_vouches_for_it(hub: FakeHub, home: Path) -> None:
    fetch(a_spec(), Silent())
    (home / "cache").rename(home / "lost")
    hub.files[COMMITS[0]] = dict(NEW)
    message = failure(a_spec())
    assert MODEL in message
    assert "models.lock.json" in message
    assert not list(home.glob(f"cache/**/{MODEL}"))
    assert locate(a_spec()) is None


def test_a_small_file_without_checksum_is_accepted_and_locked(hub: FakeHub) -> None:
    hub.hashes = False
    assert fetch(a_spec(), Silent()).weights == weights(OLD)
    locked = json.loads(lock_path().read_text())["repos"][REPO]["commits"][COMMITS[0]][LABELS]
    assert locked == {"sha256": hashlib.sha256(OLD[LABELS]).hexdigest(), "size": len(OLD[LABELS])}


def test_a_download_that_breaks_off_goes_on_where_it_stopped(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    hub.broken = 2
    assert content(fetch(a_spec(), Silent())) == OLD


def test_a_download_that_breaks_off_for_good_leaves_nothing_half(
    hub: FakeHub, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    monkeypatch.setattr(hub_module, "_patiently", lambda work: work())
    hub.broken = 1000
    assert "cannot download" in failure(a_spec())
    assert not list(home.glob("cache/**/*.incomplete"))
    assert not lock_path().exists()
    hub.broken = 0
    assert content(fetch(a_spec(), Silent())) == OLD


def test_files_that_another_program_downloaded_are_checked_and_adopted_offline(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (MODEL, LABELS):
        huggingface_hub.hf_hub_download(REPO, name)
    hub.status = 503
    assert locate(a_spec()) is None
    assert content(fetch(a_spec(COMMITS[0]), Silent())) == OLD
    lock_path().unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert fetch(a_spec(), Silent()).revision == COMMITS[0]
    assert locate(a_spec()) is not None


def test_a_damaged_foreign_file_is_not_adopted_offline(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (MODEL, LABELS):
        path = Path(huggingface_hub.hf_hub_download(REPO, name))
    (path.parent / MODEL).resolve().write_bytes(b"half")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in failure(a_spec())


def test_offline_without_the_model_says_so_at_once(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    message = failure(a_spec())
    assert REPO in message
    assert "HF_HUB_OFFLINE" in message
    assert hub.requests == []


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (503, "", "HTTP 503"),
        (429, "", "HTTP 429"),
        (404, "", "which a Hub would not"),
        (403, "GatedRepo", "Accept its licence on"),
        (404, "RepoNotFound", f"there is no {REPO} on"),
        (401, "", "Set HF_TOKEN to a valid token"),
        (403, "", "Set HF_TOKEN to a valid token"),
    ],
)
def test_each_refusal_has_its_own_advice(hub: FakeHub, status: int, code: str, said: str) -> None:
    hub.status, hub.error_code = status, code
    message = failure(a_spec())
    assert REPO in message
    assert said in message
    if status in (503, 429):
        assert all(way in message for way in ("--model ./folder", "HF_ENDPOINT", "sdprep demo"))


def test_an_unknown_revision_is_named(hub: FakeHub) -> None:
    assert "has no revision v9" in failure(a_spec("v9"))


def test_a_file_that_the_repository_lacks_is_named(hub: FakeHub) -> None:
    del hub.files[COMMITS[0]][MODEL]
    message = failure(a_spec())
    assert f"has no {MODEL}" in message
    assert f"It has: {LABELS}" in message


def test_a_hub_whose_files_cannot_be_had_is_found_out_before_the_long_retries(hub: FakeHub) -> None:
    hub.file_status = 503
    assert "HTTP 503" in failure(a_spec())
    assert hub.downloads == []


def test_a_store_behind_the_hub_that_is_out_of_reach_is_found_out_before_its_long_retries(hub: FakeHub) -> None:
    hub.store = "http://127.0.0.1:9"
    message = failure(a_spec())
    assert "http://127.0.0.1:9, where it keeps large files, does not" in message
    assert "HF_HUB_DISABLE_XET=1" in message
    assert hub.downloads == []


def test_the_token_does_not_follow_a_link_to_another_host(hub: FakeHub) -> None:
    with FakeHub({}, {}) as stranger:
        hub.store, hub.store_link = "http://127.0.0.1:9", f"{stranger.url}/api/store"
        hub_module._check_path(f"{hub.url}/{REPO}/resolve/main/{MODEL}")
        assert stranger.requests == []


def test_without_the_store_files_come_the_plain_way(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.store = "http://127.0.0.1:9"
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    assert content(fetch(a_spec(), Silent())) == OLD


def test_an_endpoint_that_is_no_hub_is_told_apart(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeHub, "info", lambda *_: ["welcome"])
    assert "is HF_ENDPOINT right?" in failure(a_spec())


def test_a_refused_connection_fails_at_once_and_hides_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    use_endpoint(monkeypatch, "http://me:secret@127.0.0.1:9")
    message = failure(a_spec())
    assert "secret" not in message
    assert "from http://127.0.0.1:9: " in message
    assert all(way in message for way in ("--model ./folder", "HF_ENDPOINT", "sdprep demo"))


def test_an_endpoint_without_scheme_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    use_endpoint(monkeypatch, "mirror.example")
    assert "missing an 'http://' or 'https://' protocol" in failure(a_spec())


def test_a_server_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        use_endpoint(monkeypatch, f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setattr(hub_module, "PATIENCE", 0.5)
        assert "no answer within 0 seconds" in failure(a_spec())


def test_the_environment_alone_chooses_endpoint_and_cache_and_a_silent_server_costs_less_than_20_seconds(
    hub: FakeHub, tmp_path: Path
) -> None:
    """In processes of their own, as huggingface_hub reads the environment when it is imported."""
    code = (
        "from sdprep.models.hub import fetch; from sdprep.models.registry import resolve; from sdprep.types import "
        f"Silent\nprint(fetch(resolve('{REPO}', 'tag'), Silent()).folder)"
    )
    home = {name: str(tmp_path / name) for name in ("HOME", "HF_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}

    def start(endpoint: str) -> subprocess.Popen[str]:
        environment = {**os.environ, **home, "LOCALAPPDATA": home["HOME"], "HF_ENDPOINT": endpoint}
        return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=-1, stderr=-1, text=True)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        begin = time.monotonic()
        _, said = start(f"http://127.0.0.1:{silent.getsockname()[1]}").communicate(timeout=60)
        assert time.monotonic() - begin < 20
    assert "HubError: cannot download" in said
    folder, _ = start(hub.url).communicate(timeout=60)
    assert Path(folder.strip()).is_relative_to(home["HF_HOME"])
    assert (Path(folder.strip()) / MODEL).read_bytes() == OLD[MODEL]


def test_a_full_disk_is_noticed_before_the_download(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.files[COMMITS[0]][MODEL] = bytes(3_000_000)
    usage = type("Usage", (), {"free": 2_000_000})
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage)
    message = failure(a_spec())
    assert "3.0 MB" in message
    assert "2.0 MB" in message
    assert hub.downloads == []


def test_a_cache_that_cannot_be_written_is_named(hub: FakeHub, home: Path) -> None:
    (home / "cache").mkdir()
    (home / "cache" / "models--someone--tagger").write_text("in the way")
    message = failure(a_spec())
    assert f"cannot store {REPO} in {home / 'cache'}" in message


def test_a_lock_that_cannot_be_written_costs_a_note_and_not_the_run(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(hub_module, "add_to_lock", read_only)
    listener = Notes()
    assert content(fetch(a_spec(), listener)) == OLD
    assert "Read-only file system" in listener.heard[-1]


def test_a_broken_lock_is_named() -> None:
    lock_path().parent.mkdir(parents=True)
    lock_path().write_text("{")
    with pytest.raises(ModelError, match=r"models\.lock\.json"):
        locate(a_spec())


def test_a_local_model_is_its_files_whatever_the_folder(tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        for file, data in OLD.items():
            (folder / file).write_bytes(data)
        found = locate(a_spec(source=Source(path=str(folder))))
        assert found is not None
        assert found.folder == folder
        digests.append(found.weights)
    assert digests == [weights(OLD)] * 2
    (tmp_path / "b" / LABELS).write_bytes(b"other")
    other = locate(a_spec(source=Source(path=str(tmp_path / "b"))))
    assert other is not None
    assert other.weights != digests[0]


def test_a_local_model_that_lacks_a_file_is_named_with_folder_and_file(tmp_path: Path) -> None:
    (tmp_path / MODEL).write_bytes(b"")
    with pytest.raises(ModelError, match=f"there is no {LABELS} in "):
        locate(a_spec(source=Source(path=str(tmp_path))))


def test_an_identity_names_the_commit_or_the_weights(hub: FakeHub, tmp_path: Path) -> None:
    assert identity(a_spec(), None) == "tagger@main"
    files = fetch(a_spec(), Silent())
    assert identity(a_spec(), files) == identity(a_spec(), None) == f"tagger@{COMMITS[0]}"
    local = ModelFiles(tmp_path, None, "0123456789abcdef")
    assert identity(a_spec(source=Source(path=str(tmp_path))), local) == "tagger#0123456789ab"

"""Downloading, verifying and locking with the real huggingface_hub client, against a small Hub on 127.0.0.1."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants

from sdprep.errors import ModelError
from sdprep.models.base import ModelFiles, ModelSpec, Source
from sdprep.models.files import hub as hub_module
from sdprep.models.files.hub import ensure_downloaded, find_local, identity
from sdprep.models.files.lockfile import lock_path, weights_of
from sdprep.report import NullListener
from tests.models.fake_hub import (
    CANARY,
    COMMITS,
    LABELS,
    MODEL,
    NEW,
    OLD,
    REPO,
    FakeHub,
    Notes,
    a_spec,
    at_home,
    check_active,
    content,
    failure,
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with at_home(tmp_path, monkeypatch) as folder:
        yield folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with check_active(monkeypatch) as fake:
        yield fake


def weights(files: dict[str, bytes]) -> str:
    return weights_of({name: hashlib.sha256(data).hexdigest() for name, data in files.items()})


def test_a_model_is_downloaded_verified_and_found_again_without_network(hub: FakeHub) -> None:
    listener = Notes()
    assert find_local(a_spec()) is None
    files = ensure_downloaded(a_spec(), listener)
    assert content(files) == OLD
    assert (files.revision, files.weights) == (COMMITS[0], weights(OLD))
    hub.requests.clear()
    assert find_local(a_spec()) == ensure_downloaded(a_spec(), listener) == files
    assert hub.requests == []


def test_a_download_is_a_stage_with_its_size_and_so_is_the_wait_for_the_hub(hub: FakeHub, home: Path) -> None:
    listener = Notes()
    ensure_downloaded(a_spec(), listener)
    assert listener.heard == [
        f"stage: looking for {REPO} on {hub.url}",
        f"stage: downloading {REPO} (0.0 MB) to {home / 'cache'}",
    ]


def test_the_token_goes_to_the_hub_and_nowhere_else(hub: FakeHub, capfd: pytest.CaptureFixture[str]) -> None:
    ensure_downloaded(a_spec(), NullListener())
    assert f"Bearer {CANARY}" in hub.tokens
    assert CANARY not in "".join(capfd.readouterr())
    assert CANARY not in lock_path().read_text()


def test_no_progress_bar_is_drawn_where_stderr_is_no_terminal(hub: FakeHub, capfd: pytest.CaptureFixture[str]) -> None:
    ensure_downloaded(a_spec(), NullListener())
    assert capfd.readouterr() == ("", "")


def test_a_branch_keeps_its_commit_although_the_hub_moves_on(hub: FakeHub, home: Path) -> None:
    first = ensure_downloaded(a_spec(), NullListener())
    hub.revisions["main"] = COMMITS[1]
    assert ensure_downloaded(a_spec(), NullListener()) == first
    (home / "cache").rename(home / "lost")
    again = ensure_downloaded(a_spec(), NullListener())
    assert again == first
    assert content(again) == OLD
    assert content(ensure_downloaded(a_spec(COMMITS[1]), NullListener())) == NEW


def test_another_file_of_a_locked_commit_is_added_to_the_lock(hub: FakeHub) -> None:
    ensure_downloaded(a_spec(), NullListener())
    hub.files[COMMITS[0]]["extra.txt"] = b"more"
    larger = ModelSpec(
        **{name: getattr(a_spec(), name) for name in a_spec().__struct_fields__}
        | {"files": (MODEL, LABELS, "extra.txt")}
    )
    assert find_local(larger) is None
    hub.requests.clear()
    assert (ensure_downloaded(larger, NullListener()).folder / "extra.txt").read_bytes() == b"more"
    assert hub.downloads == ["extra.txt"]
    assert find_local(a_spec()) is not None


def test_a_lock_without_its_files_is_not_a_model(hub: FakeHub) -> None:
    files = ensure_downloaded(a_spec(), NullListener())
    (files.folder / MODEL).unlink()
    assert find_local(a_spec()) is None
    (files.folder / MODEL).write_bytes(b"cut")
    assert find_local(a_spec()) is None


def test_a_damaged_file_of_the_cache_is_downloaded_again(hub: FakeHub) -> None:
    files = ensure_downloaded(a_spec(), NullListener())
    (files.folder / MODEL).resolve().write_bytes(b"bit rot")
    assert content(ensure_downloaded(a_spec(), NullListener())) == OLD


def test_a_file_that_is_not_what_the_hub_says_is_refused_and_deleted(hub: FakeHub, home: Path) -> None:
    hub.tampered[MODEL] = b"malware " * 1000
    message = failure(a_spec())
    assert MODEL in message
    assert "SHA-256" in message
    assert not list(home.glob(f"cache/**/{MODEL}"))
    assert not lock_path().exists()
    hub.tampered.clear()
    assert content(ensure_downloaded(a_spec(), NullListener())) == OLD


def test_a_file_that_is_not_what_was_locked_is_refused_even_if_the_hub_vouches_for_it(hub: FakeHub, home: Path) -> None:
    ensure_downloaded(a_spec(), NullListener())
    (home / "cache").rename(home / "lost")
    hub.files[COMMITS[0]] = dict(NEW)
    message = failure(a_spec())
    assert MODEL in message
    assert "models.lock.json" in message
    assert not list(home.glob(f"cache/**/{MODEL}"))
    assert find_local(a_spec()) is None


def test_a_small_file_without_checksum_is_accepted_and_locked(hub: FakeHub) -> None:
    hub.hashes = False
    assert ensure_downloaded(a_spec(), NullListener()).weights == weights(OLD)
    locked = json.loads(lock_path().read_text())["repos"][REPO]["commits"][COMMITS[0]][LABELS]
    assert locked == {"sha256": hashlib.sha256(OLD[LABELS]).hexdigest(), "size": len(OLD[LABELS])}


def test_a_download_that_breaks_off_goes_on_where_it_stopped(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    hub.broken = 2
    assert content(ensure_downloaded(a_spec(), NullListener())) == OLD


def test_files_that_another_program_downloaded_are_checked_and_adopted_offline(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (MODEL, LABELS):
        huggingface_hub.hf_hub_download(REPO, name)
    hub.status = 503
    assert find_local(a_spec()) is None
    assert content(ensure_downloaded(a_spec(COMMITS[0]), NullListener())) == OLD
    lock_path().unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert ensure_downloaded(a_spec(), NullListener()).revision == COMMITS[0]
    assert find_local(a_spec()) is not None


def test_a_damaged_foreign_file_is_not_adopted_offline(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (MODEL, LABELS):
        path = Path(huggingface_hub.hf_hub_download(REPO, name))
    (path.parent / MODEL).resolve().write_bytes(b"half")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert "HF_HUB_OFFLINE" in failure(a_spec())


def test_a_lock_that_cannot_be_written_costs_a_note_and_not_the_run(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_only(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(hub_module, "add_to_lock", read_only)
    listener = Notes()
    assert content(ensure_downloaded(a_spec(), listener)) == OLD
    assert "Read-only file system" in listener.heard[-1]


def test_a_broken_lock_is_named() -> None:
    lock_path().parent.mkdir(parents=True)
    lock_path().write_text("{")
    with pytest.raises(ModelError, match=r"models\.lock\.json"):
        find_local(a_spec())


def test_a_local_model_is_its_files_whatever_the_folder(tmp_path: Path) -> None:
    digests = []
    for name in ("a", "b"):
        folder = tmp_path / name
        folder.mkdir()
        for file, data in OLD.items():
            (folder / file).write_bytes(data)
        found = find_local(a_spec(source=Source(path=str(folder))))
        assert found is not None
        assert found.folder == folder
        digests.append(found.weights)
    assert digests == [weights(OLD)] * 2
    (tmp_path / "b" / LABELS).write_bytes(b"other")
    other = find_local(a_spec(source=Source(path=str(tmp_path / "b"))))
    assert other is not None
    assert other.weights != digests[0]


def test_a_local_model_that_lacks_a_file_is_named_with_folder_and_file(tmp_path: Path) -> None:
    (tmp_path / MODEL).write_bytes(b"")
    with pytest.raises(ModelError, match=f"there is no {LABELS} in "):
        find_local(a_spec(source=Source(path=str(tmp_path))))


def test_an_identity_names_the_commit_or_the_weights(hub: FakeHub, tmp_path: Path) -> None:
    assert identity(a_spec(), None) == "tagger@main"
    files = ensure_downloaded(a_spec(), NullListener())
    assert identity(a_spec(), files) == identity(a_spec(), None) == f"tagger@{COMMITS[0]}"
    local = ModelFiles(tmp_path, None, "0123456789abcdef")
    assert identity(a_spec(source=Source(path=str(tmp_path))), local) == "tagger#0123456789ab"

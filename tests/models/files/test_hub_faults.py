"""What a person is told when a model cannot be had: the real client against a Hub that fails."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from sdprep.models.base import Source
from sdprep.models.files import hub as hub_module
from sdprep.models.files.hub import ensure_downloaded
from sdprep.models.files.lockfile import lock_path
from sdprep.models.registry.infer import BLIP_FILES, BLIP_IMAGE, blip
from sdprep.report import NullListener
from tests.models.fake_hub import (
    COMMITS,
    LABELS,
    MODEL,
    OLD,
    REPO,
    FakeHub,
    a_spec,
    at_home,
    check_active,
    content,
    failure,
    use_endpoint,
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with at_home(tmp_path, monkeypatch) as folder:
        yield folder


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    with check_active(monkeypatch) as fake:
        yield fake


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
    assert content(ensure_downloaded(a_spec(), NullListener())) == OLD


def test_a_file_that_arrives_damaged_once_is_downloaded_again(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.tampered[MODEL] = b"cut off"
    real = hub_module._delete
    monkeypatch.setattr(hub_module, "_delete", lambda path: (hub.tampered.clear(), real(path)))
    assert content(ensure_downloaded(a_spec(), NullListener())) == OLD


def test_a_file_that_arrives_damaged_twice_is_deleted_and_named(hub: FakeHub, home: Path) -> None:
    hub.tampered[MODEL] = b"weights " * 999 + b"WEIGHTS "
    assert f"{MODEL} was damaged or exchanged on its way, twice" in failure(a_spec())
    assert len([name for name in hub.downloads if name == MODEL]) == 2
    assert not list(home.glob(f"cache/**/{MODEL}"))


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


def test_a_repository_of_a_tagger_given_to_caption_is_named_with_the_command_for_it(hub: FakeHub) -> None:
    hub.files[COMMITS[0]]["config.json"] = b"{}"
    message = failure(blip(REPO, Source(repo=REPO, revision="main"), BLIP_FILES, BLIP_IMAGE))
    assert message == (f"{REPO} has the files of a tagger, not of a captioner\nUse it with: sdprep tag --model {REPO}")


def test_a_repository_of_a_captioner_given_to_tag_is_named_with_the_command_for_it(hub: FakeHub) -> None:
    hub.files[COMMITS[0]] = dict.fromkeys(("config.json", "pytorch_model.bin", "tokenizer.json"), b"{}")
    message = failure(a_spec(COMMITS[0]))
    assert message == (
        f"{REPO} has the files of a captioner, not of a tagger\nUse it with: sdprep caption --model {REPO}@{COMMITS[0]}"
    )


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
    assert content(ensure_downloaded(a_spec(), NullListener())) == OLD


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
        monkeypatch.setattr(hub_module, "FIRST_BYTE_TIMEOUT", 0.5)
        assert "no answer within 0 seconds" in failure(a_spec())


def test_the_environment_alone_chooses_endpoint_and_cache_and_a_silent_server_costs_less_than_20_seconds(
    hub: FakeHub, tmp_path: Path
) -> None:
    """In processes of their own, as huggingface_hub reads the environment when it is imported."""
    # Starting Python and importing is no wait for a server.
    code = (
        "import time; from huggingface_hub import HfApi; from sdprep.report import NullListener\n"
        "from sdprep.models.files.hub import ensure_downloaded; from sdprep.models.registry.registry import resolve\n"
        f"spec, began = resolve('{REPO}', 'tag'), time.monotonic()\n"
        "try:\n    print(ensure_downloaded(spec, NullListener()).folder)\n"
        "finally:\n    print(time.monotonic() - began)"
    )
    home = {name: str(tmp_path / name) for name in ("HOME", "HF_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME")}

    def start(endpoint: str) -> subprocess.Popen[str]:
        environment = {**os.environ, **home, "LOCALAPPDATA": home["HOME"], "HF_ENDPOINT": endpoint}
        return subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=-1, stderr=-1, text=True)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        seconds, said = start(f"http://127.0.0.1:{silent.getsockname()[1]}").communicate(timeout=60)
    assert float(seconds) < 20
    assert "HubError: cannot download" in said
    folder = start(hub.url).communicate(timeout=60)[0].splitlines()[0]
    assert Path(folder).is_relative_to(home["HF_HOME"])
    assert (Path(folder) / MODEL).read_bytes() == OLD[MODEL]


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

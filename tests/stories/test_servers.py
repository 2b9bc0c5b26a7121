"""Captions from a server: what is written, what is paid once, and what a run that ends early leaves."""

import io
import json
import os
import signal
import subprocess
import time
from collections import Counter

import numpy as np
import pytest
from PIL import Image

from sdprep.errors import ServerError, UsageError
from tests.stories.telling import PYTHON, ROOT, caption, codes, counts, texts, write
from tests.stub_server import StubServer, caption_of, fails, jpeg_of, message, right, says, slow, waits

KEY = "sk-canary-0123456789"


@pytest.fixture
def stub():
    with StubServer() as server:
        yield server


@pytest.fixture
def dataset(tmp_path):
    """A folder of five images, each of another color."""
    folder = tmp_path / "dataset"
    folder.mkdir()
    fill(folder, 5)
    return folder


def fill(folder, count):
    for number in range(count):
        Image.new("RGB", (40, 30), (number * 5 % 256, 90, number // 50 * 40)).save(folder / f"{number:03}.png")


def at(stub, **more):
    return {"server": stub.url, "model": "stub", **more}


def described(path, stub, **server):
    """A TOML file that describes the stub."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in {"url": stub.url, "model": "stub", **server}.items()]
    head = 'name = "mine"\ntask = "caption"\nbackend = "server"\n[image]\nfit = "inside"\nsize = 64\n[server]\n'
    return str(write(path, head + "\n".join(lines) + "\n"))


def test_a_run_writes_a_caption_for_every_image_and_the_next_asks_nothing(dataset, stub):
    assert counts(caption(dataset, **at(stub))) == {"written": 5}
    assert texts(dataset, ".caption")["001.caption"].startswith(b"an image of 40 x 30, mostly 0")
    assert counts(caption(dataset, **at(stub))) == {"current": 5}
    assert stub.requests == 5


def test_a_server_may_call_its_model_by_a_path_that_is_here_too(dataset, stub):
    stub.models = [str(dataset)]
    assert counts(caption(dataset, server=stub.url, model=str(dataset))) == {"written": 5}


def test_what_the_server_ran_is_in_the_report_and_in_the_log(dataset, stub):
    stub.usual = lambda handler, body: handler.send(200, {**message(caption_of(body)), "system_fingerprint": "fp_1"})
    done = run("caption", ".", "--server", stub.url, "--model", "stub", folder=dataset)
    assert "which answered with stub (fp_1)" in done.stderr
    [entry] = json.loads(run("log", ".", "--json", folder=dataset).stdout)["runs"]
    assert entry["served"] == {"stub (fp_1)": 5}
    assert "(served: stub (fp_1))" in run("log", ".", folder=dataset).stdout


def test_two_servers_share_a_run_and_its_captions_are_current_for_one_of_them(dataset, stub):
    with StubServer() as other:
        words = ["--server", stub.url, "--server", other.url, "--model", "stub"]
        done = run("caption", ".", *words, "--json", folder=dataset)
        assert json.loads(done.stdout)["written"] == 5
        assert json.loads(done.stdout)["provider"] == f"server 127.0.0.1:{stub.port}, 127.0.0.1:{other.port}"
        assert stub.requests + other.requests == 5
        assert f"--server {stub.url} --server {other.url}" in run("log", ".", folder=dataset).stdout
    assert counts(caption(dataset, **at(stub))) == {"current": 5}


def test_a_toml_file_may_name_several_servers(dataset, stub, tmp_path):
    with StubServer() as other:
        model = described(tmp_path / "mine.toml", stub, url=[stub.url, other.url])
        assert counts(caption(dataset, model=model)) == {"written": 5}
        assert stub.requests + other.requests == 5


def test_a_json_answer_is_written_as_it_is_and_an_image_without_one_fails(dataset, stub, tmp_path):
    model = described(tmp_path / "mine.toml", stub)
    with (tmp_path / "mine.toml").open("a", encoding="utf-8") as stream:
        stream.write('[server.schema]\ntype = "object"\nrequired = ["tags"]\n')
    stub.script.extend([says("no"), says("no")])
    stub.usual = says('{"tags": ["a, b"]}')
    report = caption(dataset, model=model, in_flight=1)
    assert (counts(report), set(codes(report).values())) == ({"written": 4, "failed": 1}, {"malformed"})
    assert set(texts(dataset, ".caption").values()) == {b'{"tags":["a, b"]}\n'}
    assert counts(caption(dataset, model=model)) == {"written": 1, "current": 4}


def test_a_deleted_caption_is_written_again_from_the_answer_that_was_paid_for(dataset, stub):
    caption(dataset, **at(stub))
    (dataset / "001.caption").unlink()
    assert counts(caption(dataset, **at(stub))) == {"written": 1, "current": 4}
    assert stub.requests == 5


def test_another_prompt_or_temperature_is_another_question(dataset, stub):
    caption(dataset, **at(stub))
    caption(dataset, **at(stub, prompt="What is it?"))
    caption(dataset, **at(stub, prompt="What is it?", temperature=0.5))
    assert stub.requests == 15
    assert [body["messages"][0]["content"][1]["text"] for body in stub.bodies[5:]] == ["What is it?"] * 10
    assert [body.get("temperature") for body in stub.bodies[::5]] == [None, None, 0.5]


def test_what_is_sent_is_upright_small_on_white_and_has_no_metadata(tmp_path, stub):
    secret = Image.Exif()
    secret[0x0112], secret[0x010E] = 6, "where I live"
    image = Image.fromarray(np.zeros((600, 1500, 4), np.uint8))
    image.save(tmp_path / "a.png", exif=secret, icc_profile=b"a profile")
    caption(tmp_path, **at(stub))
    sent = jpeg_of(stub.bodies[0])
    opened = Image.open(io.BytesIO(sent))
    assert opened.size == (410, 1024)
    assert opened.getpixel((200, 500)) == (255, 255, 255)
    assert not opened.getexif()
    assert "icc_profile" not in opened.info
    assert b"where I live" not in sent


@pytest.mark.parametrize("workers", [0, 2])
def test_a_limit_of_requests_ends_a_run_as_limit_does_and_the_next_goes_on(dataset, stub, workers):
    report = caption(dataset, **at(stub, max_requests=2, workers=workers))
    assert counts(report) == {"written": 2, "remaining": 3}
    assert report.exit_code == 0
    assert stub.requests == 2
    assert counts(caption(dataset, **at(stub))) == {"written": 3, "current": 2}
    assert stub.requests == 5


def test_a_limit_of_cost_is_kept(dataset, stub, tmp_path):
    model = described(tmp_path / "mine.toml", stub)
    with (tmp_path / "mine.toml").open("a", encoding="utf-8") as stream:
        stream.write("[server.price]\ninput = 1\noutput = 10\n")
    # An answer takes 100 tokens in and 10 out, and could take 512 out.
    most = (100 + 512 * 10) / 1e6
    report = caption(dataset, model=model, max_cost=most + 3 * 200e-6)
    assert counts(report) == {"written": 4, "remaining": 1}


def test_a_limit_of_cost_needs_a_price(dataset, stub):
    with pytest.raises(UsageError, match="--max-cost needs the price"):
        caption(dataset, **at(stub, max_cost=1.0))
    assert stub.requests == 0


def test_a_limit_holds_for_all_folders_of_a_run_or_is_refused(dataset, stub):
    other = dataset / "other"
    other.mkdir()
    fill(other, 2)
    write(other / "sdprep.toml", "[caption]\ntemperature = 0.5\n")
    done = run("caption", ".", "--server", stub.url, "--model", "stub", "--max-requests", "3", folder=dataset)
    assert done.returncode == 2
    assert "--max-requests and --max-cost cannot be kept here" in done.stderr
    assert stub.requests == 0


def test_captions_of_a_server_cannot_be_ranked(dataset, stub):
    with pytest.raises(UsageError, match="--best-of ranks captions"):
        caption(dataset, **at(stub, best_of=2, sample=True))


def test_several_devices_do_not_ask_a_server_twice_as_fast(dataset, stub):
    stub.usual = slow(0.05)
    caption(dataset, **at(stub, device="cpu,cpu", workers=2, in_flight=1))
    assert stub.most_active == 1


def test_an_image_that_is_refused_fails_and_is_asked_about_again_by_the_next_run(dataset, stub):
    stub.script.extend([right, says(None, refusal="I will not")])
    report = caption(dataset, **at(stub, in_flight=1))
    assert counts(report) == {"written": 4, "failed": 1}
    assert codes(report) == {"001.png": "refused"}
    assert "001.caption" not in texts(dataset, ".caption")
    assert counts(caption(dataset, **at(stub))) == {"written": 1, "current": 4}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_key_that_is_refused_ends_a_run_and_what_was_answered_stays(dataset, stub, workers):
    stub.script.extend([right, right, fails(401, "your key is over")])
    with pytest.raises(ServerError, match="your key is over"):
        caption(dataset, **at(stub, in_flight=1, workers=workers))
    assert len(texts(dataset, ".caption")) == 2
    assert counts(caption(dataset, **at(stub))) == {"written": 3, "current": 2}
    assert stub.requests == 6


def test_a_dry_run_says_what_it_would_ask_for_and_asks_nothing(dataset, stub):
    notes = run("caption", ".", "--server", stub.url, "--model", "stub", "--dry-run", folder=dataset).stderr
    assert f"5 requests to {stub.url}: about 3.5 MB, at most 1,280 tokens in answers" in notes
    assert stub.requests == 0
    assert stub.gets == []


def run(*words, folder, **environment):
    return subprocess.run(
        [PYTHON, "-m", "sdprep", *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
    )


def test_no_key_is_in_any_message_catalog_or_traceback(dataset, stub, tmp_path):
    model = described(tmp_path / "mine.toml", stub, key_env="STUB_KEY")
    stub.script.extend([right, fails(400, f"bad image, {KEY}"), fails(500, KEY), says(f"my key is {KEY}")])
    stub.usual = fails(401, f"Incorrect API key provided: {KEY}")
    words = ["caption", ".", "--model", model, "--in-flight", "1", "--debug", "--log-file", "log.txt"]
    done = run(*words, folder=dataset, STUB_KEY=KEY, SDPREP_TRACEBACK="1")
    assert "Incorrect API key provided: ***" in done.stderr
    assert done.returncode == 1
    assert {header["Authorization"] for header in stub.headers} == {f"Bearer {KEY}"}
    files = {path.name: path.read_bytes() for path in dataset.rglob("*") if path.is_file()}
    assert "log.txt" in files
    assert [name for name, data in files.items() if b"canary" in data] == []
    assert "canary" not in done.stdout + done.stderr


def test_what_was_in_flight_when_a_run_was_killed_is_counted_when_it_is_asked_again(tmp_path):
    fill(tmp_path, 20)
    log = tmp_path / ".sdprep" / "catalog.sqlite.requests"
    with StubServer(*[right] * 5, usual=waits) as stub:
        words = ["caption", ".", "--server", stub.url, "--model", "stub", "--in-flight", "4"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        process = subprocess.Popen([PYTHON, "-m", "sdprep", *words], cwd=tmp_path, env=environment)
        while stub.requests < 9 or log.read_text().count("-") < 5:
            assert process.poll() is None
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()
        stub.usual = right
        # The first of the two makes two of them again.
        first = caption(tmp_path, **at(stub, in_flight=1, max_requests=2))
        second = caption(tmp_path, **at(stub))
        assert (first.asked_again, second.asked_again) == (2, 2)
        assert stub.requests == 20 + 4
        assert not log.exists()
        assert caption(tmp_path, **at(stub, refresh=True)).asked_again == 0


def test_a_run_that_is_killed_again_and_again_loses_no_answer_and_asks_again_only_what_was_in_flight(tmp_path):
    fill(tmp_path, 40)
    kills, in_flight = 3, 8
    with StubServer(usual=slow(0.03)) as stub:
        words = ["caption", ".", "--server", stub.url, "--model", "stub", "--in-flight", str(in_flight)]
        for number in range(kills):
            process = subprocess.Popen(
                [PYTHON, "-m", "sdprep", *words],
                cwd=tmp_path,
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            asked = stub.requests
            while process.poll() is None and stub.requests < asked + 5 + number:
                time.sleep(0.002)
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert counts(caption(tmp_path, **at(stub, in_flight=in_flight))).get("failed", 0) == 0
        asked = Counter(jpeg_of(body) for body in stub.bodies)
    assert len(texts(tmp_path, ".caption")) == 40
    assert len(asked) == 40
    # What was in flight, and what had just come and was not stored yet.
    assert stub.requests - 40 <= kills * 2 * in_flight

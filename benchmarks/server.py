"""Measures captions from a server: the rate against what its answers allow, and what faults and kills cost.

    python -m benchmarks.server [--images 1000] [--seconds 0.2] [--in-flight 32] [--faults 0.2] [--kills 20]

The server is a process of its own that answers after so many seconds. The rate is measured at the server, from its
first request to its last answer, since a run also plans and writes; the highest possible rate is in flight / seconds.
Then the same images are captioned by a server that fails that share of its requests, in equal parts with 429, 500 and a
cut connection, by runs of which so many are killed. Each image should be answered once: an answer that was in flight
when a run was killed is asked for again, and counted.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path

from PIL import Image

ANSWER = {
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "a drawing"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 100, "completion_tokens": 3, "total_tokens": 103},
}


class Stub(ThreadingHTTPServer):
    """Answers after `seconds`, and fails a share of its requests."""

    daemon_threads = True
    request_queue_size = 256

    def __init__(self, seconds: float, faults: float) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.seconds, self.faults, self.lock = seconds, faults, threading.Lock()
        self.random, self.requests, self.answered = random.Random(0), 0, Counter[str]()
        self.first = self.last = 0.0

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that is killed is no fault of the server."""


class Handler(BaseHTTPRequestHandler):
    """One connection to the stub."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Stub

    def _send(self, status: int, content: object) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self) -> None:
        """The list of models, or what was counted."""
        stub = self.server
        if self.path.endswith("/models"):
            self._send(200, {"data": [{"id": "stub"}]})
        else:
            counted = {"requests": stub.requests, "answered": dict(stub.answered), "seconds": stub.last - stub.first}
            self._send(200, counted)

    def do_POST(self) -> None:
        """An answer after some time, or a fault."""
        stub, body = self.server, self.rfile.read(int(self.headers["Content-Length"]))
        with stub.lock:
            stub.requests += 1
            stub.first = stub.first or time.perf_counter()
            chance = stub.random.random()
        fault = int(chance / stub.faults * 3) if chance < stub.faults else None
        if fault is not None:
            if fault == 2:
                self.close_connection = True
                self.connection.close()
            else:
                self._send((429, 500)[fault], {"error": {"message": "not now"}})
            return
        time.sleep(stub.seconds)
        self._send(200, ANSWER)
        with stub.lock:
            stub.last = time.perf_counter()
            stub.answered[hashlib.sha256(body).hexdigest()] += 1

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""


def serve(seconds: float, faults: float, port: Connection) -> None:
    """Serve in this process until it is ended."""
    stub = Stub(seconds, faults)
    port.send(stub.server_address[1])
    stub.serve_forever()


class Server:
    """A stub in a process of its own, while it is entered."""

    def __init__(self, seconds: float, faults: float = 0.0) -> None:
        ours, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("spawn").Process(target=serve, args=(seconds, faults, theirs))
        self._process.start()
        self.port: int = ours.recv()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.join()

    def counted(self) -> dict[str, object]:
        """What the stub has counted so far."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        connection.request("GET", "/counted")
        counted: dict[str, object] = json.loads(connection.getresponse().read())
        connection.close()
        return counted

    def start(self, folder: Path, in_flight: int) -> subprocess.Popen[bytes]:
        """A run of caption over a folder."""
        words = ["caption", str(folder), "--server", f"http://127.0.0.1:{self.port}", "--model", "stub"]
        command = [sys.executable, "-m", "sdprep", *words, "--in-flight", str(in_flight)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def fill(folder: Path, count: int) -> None:
    """Images of which no two are alike."""
    folder.mkdir()
    for number in range(count):
        rng = random.Random(number)
        image = Image.frombytes("RGB", (8, 6), rng.randbytes(8 * 6 * 3)).resize((256, 192))
        image.save(folder / f"{number:05}.jpg", quality=90)


def measure_rate(folder: Path, images: int, seconds: float, in_flight: int) -> None:
    """Print the share of the possible rate that a run reaches."""
    with Server(seconds) as server:
        server.start(folder, in_flight).wait()
        took = server.counted()["seconds"]
    if not isinstance(took, float) or len(list(folder.glob("*.caption"))) != images:
        raise AssertionError("not every image has a caption")
    best = images * seconds / in_flight
    print(f"{images} images, {in_flight} in flight: {took:.2f} s of {best:.2f} s, {best / took:.3f} of the rate")


def measure_kills(folder: Path, images: int, server: Server, in_flight: int, kills: int) -> None:
    """Print how many images were lost or answered twice over so many killed runs, and one that ends."""
    killed = 0
    while killed < kills:
        before, run = server.counted()["requests"], server.start(folder, in_flight)
        wanted = int(str(before)) + max(1, images // (kills + 2))
        while run.poll() is None and int(str(server.counted()["requests"])) < wanted:
            time.sleep(0.01)
        if run.poll() is not None:
            break
        run.kill()
        run.wait()
        killed += 1
    for _ in range(3):
        # An image whose tries all met faults is asked about again by the next run.
        server.start(folder, in_flight).wait()
    counted = server.counted()
    answered = counted["answered"]
    if not isinstance(answered, dict):
        raise AssertionError("the stub counts answers by image")
    twice, lost = sum(answered.values()) - len(answered), images - len(list(folder.glob("*.caption")))
    print(f"{killed} kills, {counted['requests']} requests: {lost} lost, {len(answered)} images answered")
    print(f"{twice} answered again, of at most {killed * in_flight} that were in flight at a kill")


def main() -> None:
    """Print both measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=0.2)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--faults", type=float, default=0.2)
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "images"
        fill(folder, options.images)
        measure_rate(folder, options.images, options.seconds, options.in_flight)
        for path in [folder / ".sdprep", *folder.glob("*.caption")]:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        with Server(options.seconds, options.faults) as server:
            measure_kills(folder, options.images, server, options.in_flight, options.kills)


if __name__ == "__main__":
    main()

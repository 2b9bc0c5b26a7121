"""A real HTTP server in a thread that stands for an OpenAI-compatible one and does what a test tells it."""

import base64
import io
import json
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

USAGE = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 110}


def caption_of(body):
    """What the stub says about an image: the size and the mean color that it sees."""
    image = image_of(body)
    color = image.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    return f"an image of {image.width} x {image.height}, mostly {bytes(color).hex()}"


def image_of(body):
    return Image.open(io.BytesIO(jpeg_of(body))).convert("RGB")


def jpeg_of(body):
    part = body["messages"][-1]["content"][0]
    return base64.b64decode(part["image_url"]["url"].removeprefix("data:image/jpeg;base64,"))


# What the server does with a request: functions of the handler and the body.


def message(content, finish_reason="stop", **more):
    return {
        "id": "1",
        "object": "chat.completion",
        "model": "stub",
        "choices": [
            {"index": 0, "message": {"role": "assistant", "content": content, **more}, "finish_reason": finish_reason}
        ],
        "usage": USAGE,
    }


def right(handler, body):
    handler.send(200, message(caption_of(body)))


def says(content, finish_reason="stop", **more):
    return lambda handler, _: handler.send(200, message(content, finish_reason, **more))


def gives(table):
    return lambda handler, _: handler.send(200, table)


def fails(status, text="it failed", headers=None, **more):
    return lambda handler, _: handler.send(status, {"error": {"message": text, **more}}, headers or {})


def html(handler, body):
    handler.send(200, b"<!doctype html><html>Welcome</html>", {"Content-Type": "text/html"})


def cut(handler, body):
    """The connection ends before any answer."""
    handler.close_connection = True
    handler.connection.close()


def half(handler, body):
    """The connection ends within the answer."""
    data = json.dumps(message("half an answer")).encode()
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data[:20])
    handler.wfile.flush()
    cut(handler, body)


def stream(*texts, done=True, usage=USAGE):
    def answer(handler, body):
        events = [{"choices": [{"index": 0, "delta": {"role": "assistant"}}]}]
        events += [{"choices": [{"index": 0, "delta": {"content": text}}]} for text in texts]
        if done:
            events += [{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}]
            events += [{"choices": [], "usage": usage}]
        data = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + ("data: [DONE]\n\n" if done else "")
        handler.send(200, data.encode(), {"Content-Type": "text/event-stream"})

    return answer


def waits(handler, body):
    """No answer, until the client goes away."""
    handler.rfile.read(1)
    handler.close_connection = True


def slow(seconds, then=right):
    def answer(handler, body):
        time.sleep(seconds)
        then(handler, body)

    return answer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def send(self, status, content, headers=None):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        given = {"Content-Type": "application/json", **(headers or {})}
        self.send_response(status)
        for name, value in given.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        stub = self.server.stub
        stub.gets.append((self.path, dict(self.headers)))
        if not self.path.endswith("/models"):
            self.send(404, {"error": {"message": "no such path"}})
        elif callable(stub.models):
            stub.models(self, None)
        else:
            self.send(200, {"object": "list", "data": [{"id": name, "object": "model"} for name in stub.models]})

    def do_POST(self):
        stub = self.server.stub
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with stub.lock:
            stub.bodies.append(body)
            stub.headers.append(dict(self.headers))
            stub.paths.append(self.path)
            stub.active += 1
            stub.most_active = max(stub.most_active, stub.active)
            action = stub.script.popleft() if stub.script else stub.usual
        try:
            action(self, body)
        finally:
            with stub.lock:
                stub.active -= 1

    def log_message(self, *_):
        pass


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, request, client_address):
        """A client that goes away, as one that is killed does, is no fault."""


class StubServer:
    """Serves while it is entered. Requests get the actions of `script`, then `usual`; `models` may be an action too."""

    def __init__(self, *script, usual=right, models=("stub",), wrap=None):
        self.script, self.usual, self.models = deque(script), usual, models
        self.bodies, self.headers, self.paths, self.gets = [], [], [], []
        self.active = self.most_active = 0
        self.lock = threading.Lock()
        self.server = QuietServer(("127.0.0.1", 0), Handler)
        self.server.stub = self
        if wrap is not None:
            self.server.socket = wrap(self.server.socket)

    @property
    def requests(self):
        return len(self.bodies)

    @property
    def port(self):
        return self.server.server_address[1]

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

"""A process that runs sdprep again and again, each time in a fork of its own that can be killed at a chosen point.

It reads one order a line, as JSON, and answers each with a line. An order has the `words` of a command line and the
`folder` to run it in; `event` kills the run with SIGKILL before its so manieth step that writes, `seconds` after this
time. The answer has the exit `status` (negative: the signal), the number of `events`, the `seconds` of the run, and
what it `said`. It comes when the run and every process that it started are gone.
"""

import ctypes
import json
import os
import signal
import sqlite3
import sys
import time
from contextlib import suppress
from importlib import import_module

PR_SET_CHILD_SUBREAPER = 36
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
STEPS = frozenset({"os.rename", "os.remove", "os.mkdir", "os.chmod", "os.truncate", "os.utime"})
PATIENCE = 120


class Counter:
    """Counts the steps of this process that change a file or the catalog, and dies before one of them."""

    def __init__(self, fatal):
        self.count, self._fatal = 0, fatal

    def step(self, *_):
        self.count += 1
        if self.count == self._fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    def receive(self, event, args):
        if event in STEPS or (event == "open" and isinstance(args[2], int) and args[2] & WRITING):
            self.step()

    def connect(self, *args, real=sqlite3.connect, **options):
        connection = real(*args, **options)
        connection.set_trace_callback(lambda statement: statement.startswith(("SELECT", "PRAGMA")) or self.step())
        return connection


def be_the_run(order, said, result):
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for stream in (1, 2):
        os.dup2(said, stream)
    os.chdir(order["folder"])
    sys.argv = ["sdprep", *order["words"]]
    counter = Counter(order.get("event"))
    sys.addaudithook(counter.receive)
    sqlite3.connect = counter.connect
    status = 0
    try:
        import_module("sdprep.cli.main").main()
    except SystemExit as end:
        status = end.code or 0
    sys.stderr.flush()
    os.write(result, str(counter.count).encode())
    os._exit(status)


def everything_from(pipe):
    with os.fdopen(pipe, "rb") as stream:
        return stream.read().decode("utf-8", "replace")


def carry_out(order):
    (said, say), (result, tell) = os.pipe(), os.pipe()
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        be_the_run(order, say, tell)
    os.close(say)
    os.close(tell)
    if "seconds" in order:
        signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
        signal.setitimer(signal.ITIMER_REAL, order["seconds"])
    answer = {"said": everything_from(said), "events": int(everything_from(result) or 0)}
    # Both pipes have ended, so the run is over. The alarm must not find its number free, or given to another process.
    signal.setitimer(signal.ITIMER_REAL, 0)
    _, status = os.waitpid(child, 0)
    answer |= {"status": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - began}
    # An orphan becomes a child of this process: a worker that would live on keeps the answer from coming.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(PATIENCE)
    with suppress(ChildProcessError):
        while True:
            os.wait()
    signal.alarm(0)
    return answer


def main():
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for name in sys.argv[1:]:
        import_module(name)
    for line in sys.stdin:
        print(json.dumps(carry_out(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()

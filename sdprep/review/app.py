"""The answers of the page's server: routes and JSON; the one place that knows Starlette."""

from __future__ import annotations

import asyncio
import mimetypes
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from struct import pack
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import msgspec

from sdprep.errors import FolderInUse, ImageError, ReadOnlyFolder, SdprepError, UsageError
from sdprep.report import CancelToken
from sdprep.review.decoder import LARGE, SMALL, Decoders
from sdprep.review.guard import Guard
from sdprep.review.thumbs import Thumbs
from sdprep.rules.edits.operations import NAMES, Operation
from sdprep.rules.where.parse import WhereError
from sdprep.sanitize import to_json
from sdprep.tasks.review.review import Conflict, Gone, Review

if TYPE_CHECKING:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response

T = TypeVar("T")
STATIC = Path(__file__).parent / "static"
# Rows that are asked for at once.
MOST_ROWS = 500
# The trainer whose view of the images is shown unless another is asked for.
TARGET = "dreambooth"
KINDS = ("tags", "caption")
# The statuses of errors; any other is 500.
STATUSES: dict[type[SdprepError], int] = {UsageError: 422, ReadOnlyFolder: 403}


class OperationBody(msgspec.Struct):
    """An operation by its option, with its value."""

    name: Literal[NAMES]  # type: ignore[valid-type]
    value: str = ""


class Numbers(msgspec.Struct):
    """Images by their numbers."""

    numbers: list[int]


class Chosen(msgspec.Struct):
    """Images by their numbers, or by a filter."""

    kind: Literal["tags", "caption"]
    numbers: list[int] | None = None
    where: str = ""


class Planned(Chosen, kw_only=True):
    """An operation on images, as `sdprep edit` has it."""

    operation: OperationBody


class Mark(msgspec.Struct):
    """What to mark on images."""

    numbers: list[int]
    stars: int | None = None
    is_rejected: bool | None = None


class Apply(msgspec.Struct):
    """A plan by its name."""

    plan: str


class Run(msgspec.Struct):
    """A run by its id."""

    run: str


class Text(msgspec.Struct):
    """A new text, or an operation on the one that is there."""

    text: str = ""
    operation: OperationBody | None = None


class Refused(Exception):  # noqa: N818 - an answer, and no error of sdprep
    """An answer with this status."""

    def __init__(self, status: int, message: str, **more: Any) -> None:
        super().__init__(message)
        self.status, self.more = status, more


class Server:
    """The answers to all requests: what looks at images, what counts tags and what changes files have a thread each."""

    def __init__(self, review: Review) -> None:
        self._review = review
        self._looking, self._changing, self._counting = (ThreadPoolExecutor(1) for _ in range(3))
        self._loading, self._keeping = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._decoders = Decoders()
        self._thumbs = Thumbs(review.store, review.root, review.note)

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Read texts while the server runs; end all threads and processes with it."""
        self._loading.submit(self._review.load)
        yield
        self._review.end()
        await self._decoders.close()
        await self._in(self._keeping, self._thumbs.close)
        for threads in (self._loading, self._looking, self._changing, self._counting, self._keeping):
            await self._in(threads, self._review.close)
            threads.shutdown()

    @staticmethod
    async def _in(threads: ThreadPoolExecutor, function: Callable[..., T], *args: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(threads, function, *args)

    async def _ask(self, threads: ThreadPoolExecutor, function: Callable[..., T], *args: Any) -> T:
        """As `_in`, for what the page waits for."""
        with self._review.index.questions:
            return await self._in(threads, function, *args)

    async def _look(self, function: Callable[..., T], *args: Any) -> T:
        return await self._ask(self._looking, function, *args)

    async def _filter(self, where: str) -> str:
        """A filter once what it asks about is read, some images at a time: other questions are answered in between."""
        while not await self._look(self._review.read_for, where):
            pass
        return where

    async def _change(self, function: Callable[..., T], *args: Any) -> T:
        return await self._ask(self._changing, function, *args)

    # The page

    async def index(self, _: Request) -> Response:
        """The page itself, which will ask for images."""
        self._decoders.start()
        return _file("index.html")

    async def static(self, request: Request) -> Response:
        """A script, a style or a message file of the page."""
        return _file(str(request.path_params["name"]))

    # Looking

    async def folder(self, _: Request) -> Response:
        """What the page has to know first."""
        return _json(self._review.about())

    async def view(self, request: Request) -> Response:
        """The numbers of the images that match a filter after how many they are, then rows that come into sight."""
        near, count = _number(request, "near"), min(_number(request, "rows"), MOST_ROWS // 2)
        where = await self._filter(request.query_params.get("where", ""))
        numbers, rows = await self._look(self._review.view_with_rows, where, near, count)
        head = pack(f"<{len(numbers) + 1}I", len(numbers), *numbers)
        return _bytes(head + msgspec.json.encode(to_json(rows)), "application/octet-stream")

    async def rows(self, request: Request) -> Response:
        """What the page shows of images."""
        numbers = self._known((await _body(request, Numbers)).numbers)
        if len(numbers) > MOST_ROWS:
            raise Refused(413, f"ask for at most {MOST_ROWS} rows")
        return _json({"rows": await self._look(self._review.rows, numbers)})

    async def counts(self, request: Request) -> Response:
        """How many images have each tag: of those that match a filter, or of a selection."""
        where, numbers, stop = await self._filter(request.query_params.get("where", "")), None, CancelToken()
        if request.method == "POST":
            numbers = self._known((await _body(request, Numbers)).numbers)
        try:
            return _json(await self._in(self._counting, self._review.counts, where, numbers, stop))
        except asyncio.CancelledError:
            stop.exit_code = 0
            raise

    async def suggest(self, request: Request) -> Response:
        """Tags for what was typed so far."""
        found = await self._look(self._review.suggest, request.query_params.get("q", ""))
        return _json({"suggestions": found})

    async def changes(self, request: Request) -> Response:
        """The images that the page should ask for again."""
        return _json(await self._look(self._review.changes, _number(request, "since")))

    async def session(self, _: Request) -> Response:
        """What was done so far."""
        return _json({"runs": self._review.runs()})

    async def progress(self, _: Request) -> Response:
        """How far the action at work has come."""
        return _json({"done": self._review.progress.done, "of": self._review.progress.of})

    async def findings(self, request: Request) -> Response:
        """What a trainer would find wrong with the images."""
        target = request.query_params.get("target", TARGET)
        return _json({"findings": await self._in(self._loading, self._review.findings, target)})

    async def crop(self, request: Request) -> Response:
        """The part of an image that a trainer uses."""
        [number] = self._known([request.path_params["number"]])
        found = re.fullmatch(r"(\d{1,6})(?:[,x](\d{1,6}))?", request.query_params.get("resolution", "1024"), re.ASCII)
        if found is None:
            raise Refused(400, "the resolution is N or W,H")
        resolution = int(found[1]), int(found[2] or found[1])
        target = request.query_params.get("target", TARGET)
        answer = await self._look(self._review.crop, number, resolution, target)
        if answer is None:
            raise Refused(404, f"the buckets of {target} are not computed")
        return _json(answer)

    async def thumb(self, request: Request) -> Response:
        """A small copy of an image."""
        return await self._copy(request, SMALL, "image/webp")

    async def picture(self, request: Request) -> Response:
        """A large copy of an image, upright, in a format that every browser reads."""
        return await self._copy(request, LARGE, "image/jpeg")

    async def _copy(self, request: Request, side: int, kind: str) -> Response:
        [number] = self._known([request.path_params["number"]])
        item = self._review.index.items[number]
        known = await self._ask(self._keeping, self._thumbs.find, item) if side == SMALL else None
        if known is not None:
            return _bytes(known, kind)
        copy = await self._decoders.copy(item, side)
        while copy.failure:
            if not item.path.exists():
                # What is changed at this moment may be moving it; then it has its new place afterwards.
                await self._change(lambda: None)
            if item is self._review.index.items[number]:
                raise Refused(404, copy.failure)
            item = self._review.index.items[number]
            copy = await self._decoders.copy(item, side)
        if side == SMALL:
            await self._in(self._keeping, self._thumbs.keep, item, copy.data)
        return _bytes(copy.data, kind)

    def _known(self, numbers: Sequence[int]) -> Sequence[int]:
        most = len(self._review.index.items)
        if not all(0 <= number < most for number in numbers):
            raise Refused(404, f"images have the numbers 0 to {most - 1}")
        return numbers

    # Changing

    async def text(self, request: Request) -> Response:
        """Replace a caption or the tags of an image, or do an operation on them at once."""
        [number] = self._known([request.path_params["number"]])
        kind, match = request.path_params["kind"], request.headers.get("if-match")
        if kind not in KINDS:
            raise Refused(404, f"{kind} is neither tags nor caption")
        if match is None:
            raise Refused(428, "If-Match must have the hash of the text that was shown")
        body, expected = await _body(request, Text), [each.strip(' "') for each in match.split(",")]
        try:
            if body.operation is None:
                return _json(await self._change(self._review.write, number, kind, body.text, expected))
            operation = Operation(body.operation.name, body.operation.value)
            return _json(await self._change(self._review.edit, number, kind, operation, expected))
        except Conflict as conflict:
            [row] = await self._look(self._review.rows, [number])
            raise Refused(412, "the file has changed since it was shown", row=row, text=str(conflict)) from None

    async def plan(self, request: Request) -> Response:
        """Plan an operation on many images, and show what it would do."""
        body = await _body(request, Planned)
        operation = Operation(body.operation.name, body.operation.value)
        return _json(await self._change(self._review.plan, await self._chosen(body), body.kind, operation))

    async def apply(self, request: Request) -> Response:
        """Make the changes of a plan."""
        try:
            return _json(await self._change(self._review.apply, (await _body(request, Apply)).plan))
        except Gone:
            raise Refused(410, "this plan is gone; make it again") from None

    async def approve(self, request: Request) -> Response:
        """Make captions or tags the user's, as they are."""
        body = await _body(request, Chosen)
        return _json(await self._change(self._review.approve, await self._chosen(body), body.kind))

    async def mark(self, request: Request) -> Response:
        """Give images stars, reject them, or take them back."""
        body = await _body(request, Mark)
        return _json(await self._change(self._review.mark, self._known(body.numbers), body.stars, body.is_rejected))

    async def undo(self, request: Request) -> Response:
        """Undo a run of this session."""
        return _json(await self._change(self._review.undo, (await _body(request, Run)).run))

    async def stop(self, request: Request) -> Response:
        """Have the action at work end after the files in hand."""
        await _body(request, dict)
        self._review.stop()
        return _json({})

    @property
    def actions(self) -> tuple[Callable[[Request], Awaitable[Response]], ...]:
        """What a POST to the address of this name does."""
        return self.plan, self.apply, self.approve, self.mark, self.undo, self.stop

    async def _chosen(self, body: Chosen) -> Sequence[int]:
        if body.numbers is not None:
            return self._known(list(dict.fromkeys(body.numbers)))
        return await self._look(self._review.view, await self._filter(body.where))


def build(review: Review, token: str) -> Guard:
    """The application: every path begins with the token."""
    from starlette.applications import Starlette
    from starlette.routing import Route

    server = Server(review)
    routes = [
        Route("/", server.index),
        Route("/static/{name}", server.static),
        Route("/api/folder", server.folder),
        Route("/api/view", server.view),
        Route("/api/rows", server.rows, methods=["POST"]),
        Route("/api/counts", server.counts, methods=["GET", "POST"]),
        Route("/api/suggest", server.suggest),
        Route("/api/changes", server.changes),
        Route("/api/session", server.session),
        Route("/api/progress", server.progress),
        Route("/api/findings", server.findings),
        Route("/api/crop/{number:int}", server.crop),
        *(Route(f"/api/{each.__name__}", each, methods=["POST"]) for each in server.actions),
        Route("/thumb/{number:int}", server.thumb),
        Route("/picture/{number:int}", server.picture),
        Route("/api/text/{number:int}/{kind}", server.text, methods=["PUT"]),
    ]
    handlers: dict[Any, Any] = {Refused: _refused, SdprepError: _failed, ImageError: _unreadable}
    return Guard(Starlette(routes=routes, lifespan=server.lifespan, exception_handlers=handlers), token)


def _number(request: Request, name: str) -> int:
    """A number of the query; 0 without it."""
    text = request.query_params.get(name, "0")
    if not re.fullmatch(r"\d{1,15}", text, re.ASCII):
        raise Refused(400, f"{name} is a number")
    return int(text)


async def _body(request: Request, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(await request.body(), type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Refused(400, str(error)) from error


async def _refused(_: Request, error: Refused) -> Response:
    return _json({"message": str(error), **error.more}, error.status)


async def _unreadable(_: Request, error: ImageError) -> Response:
    return _json({"message": str(error)}, 404)


async def _failed(_: Request, error: SdprepError) -> Response:
    if isinstance(error, WhereError):
        return _json({"message": str(error), "at": error.at}, 422)
    if isinstance(error, FolderInUse):
        return _json({"message": str(error), "owner": error.owner}, 423)
    status = next((each for kind, each in STATUSES.items() if isinstance(error, kind)), 500)
    return _json({"message": str(error)}, status)


def _json(value: Any, status: int = 200) -> Response:
    return _bytes(msgspec.json.encode(to_json(value)), "application/json", status)


def _bytes(data: bytes, kind: str, status: int = 200) -> Response:
    from starlette.responses import Response

    return Response(data, status, {"Cache-Control": "no-store"}, kind)


def _file(name: str) -> Response:
    """A file of the page, from a list: no path is made of what was asked for."""
    known = {path.name: path for path in STATIC.iterdir()}
    if name not in known:
        raise Refused(404, f"there is no {name}")
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return _bytes(known[name].read_bytes(), "text/javascript" if name.endswith(".js") else kind)

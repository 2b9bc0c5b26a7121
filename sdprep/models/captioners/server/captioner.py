"""Captions images with a model that a server has."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

from sdprep.errors import ServerError, UsageError, starting_threads
from sdprep.models.base import ModelFiles, ModelSpec, ServerSpec
from sdprep.models.captioners.generation import CaptionOptions, stream_seed
from sdprep.models.captioners.server.address import Address, is_public, parse_address
from sdprep.models.captioners.server.body import Dialect, Question
from sdprep.models.captioners.server.client import Client, Job
from sdprep.models.captioners.server.connection import NoResponse, NotConnected, Response, resolved
from sdprep.models.captioners.server.estimate import tokens_asked
from sdprep.models.captioners.server.images import encode_jpeg
from sdprep.models.captioners.server.key import read_key
from sdprep.models.captioners.server.limits import Budget, Limiter
from sdprep.models.captioners.server.outcome import Fatal, outcome_of
from sdprep.models.captioners.server.reply import is_listed, is_page, read_models
from sdprep.models.captioners.server.requests import RequestLog, request_key
from sdprep.models.captioners.server.scheduler import Clock, Endpoint, Scheduler
from sdprep.models.execution import Execution
from sdprep.report import CancelToken
from sdprep.sanitize import redact, strip_invisible
from sdprep.types import Batch, Caption, NoAnswer, Prediction

LIST_SECONDS = 30.0
# Model names in a message.
NAMES = 10
START = (
    "Is it running? Start it with `ollama serve`, `lms server start`, `vllm serve MODEL`, or "
    "`llama-server -m MODEL.gguf --mmproj FILE.gguf`, and look at its port"
)
# What servers take as a seed, whatever they are written in.
SEED_BITS = (1 << 31) - 1
# What servers that have no list of models answer where it would be.
NO_LIST = frozenset({404, 405, 501})


class ServerCaptioner:
    """A vision-language model at a server with the Chat Completions API, asked about each image.

    Raises UsageError for an address that no image should be sent to, and for a missing key; ServerError if the server
    cannot be reached or does not have the model. `stop` is asked while it waits. `note` gets messages for the user.
    """

    notes: tuple[str, ...] = ()

    def __init__(
        self,
        spec: ModelSpec,
        _: ModelFiles,
        execution: Execution,
        options: CaptionOptions,
        note: Callable[[str], None] = lambda _: None,
        clock: Clock = Clock(),
    ) -> None:
        if spec.server is None or spec.image.size is None:
            raise AssertionError("the description of a server was not checked")
        self._server, self._options, self._note, self._clock = spec.server, options, note, clock
        self._most = max(1, execution.in_flight)
        addresses = [parse_address(url) for url in spec.server.urls]
        for address in addresses:
            check_privacy(address, insecure=options.insecure)
        self.stop = CancelToken()
        self.fit = spec.image.fit_to(spec.image.size)
        self._names = ", ".join(address.name for address in addresses)
        self.provider = f"server {self._names}"
        self._key = read_key(spec.server.key_env)
        self._clients = [
            Client(address, self._key, spec.answer, spec.server.schema, spec.server.max_bytes, note)
            for address in addresses
        ]
        self._budget = budget_for(spec.server, options)
        for host in dict.fromkeys(address.host for address in addresses if not address.is_local):
            key = f" and the key in {spec.server.key_env}" if spec.server.key_env else ""
            note(f"the images{key} are sent to {host}")
        for client in self._clients:
            self._check_model(client)
        self._log = None if options.request_log is None else RequestLog(options.request_log)
        for client in self._clients:
            client.log = self._log

    def predict(self, batches: Iterable[Batch]) -> Iterator[tuple[Hashable, Prediction]]:
        """The caption of each image the moment it arrives; fewer than all if the run may ask for no more."""
        server, generation = self._server, self._options.generation
        tokens = tokens_asked(self.fit.size, self._options.system) + generation.max_new_tokens
        endpoints = [
            Endpoint(client, Limiter(self._most, server.requests_per_minute, server.tokens_per_minute, tokens))
            for client in self._clients
        ]
        scheduler = Scheduler(endpoints, self._budget, self._most, self._note, self._clock)
        puller = threading.Thread(target=self._pull, args=(batches, scheduler), name="encode", daemon=True)
        scheduler.start()
        with starting_threads():
            puller.start()
        gathered = Gathered(generation.num_return_sequences)
        try:
            with closing(scheduler.finished(lambda: bool(self.stop))) as finished:
                for job, answer in finished:
                    if (whole := gathered.add(job, answer)) is not None:
                        yield job.key, whole
            self._report()
        finally:
            scheduler.end()
            puller.join()

    def close(self) -> None:
        """Close the request log; the threads of a run end with it."""
        if self._log is not None:
            self._log.close()

    def _pull(self, batches: Iterable[Batch], scheduler: Scheduler) -> None:
        """Read batches ahead of the requests; only the JPEG of an image is kept."""
        error: BaseException | None = None
        try:
            source = iter(batches)
            while scheduler.wait_for_room() and (batch := next(source, None)) is not None:
                for job in self._jobs(batch):
                    scheduler.add(job)
        except BaseException as raised:  # noqa: BLE001 - it is raised where answers are taken
            error = raised
        scheduler.complete(error)

    def _jobs(self, batch: Batch) -> Iterator[Job]:
        prompts = batch.prompts or ("",) * len(batch.keys)
        for key, digest, pixels, prompt in zip(batch.keys, batch.digests, batch.pixels, prompts, strict=True):
            jpeg = encode_jpeg(pixels, self._server.max_bytes)
            for number in range(self._options.generation.num_return_sequences):
                question = self._question(prompt, digest, number)
                name = request_key(digest, number, question.body("", Dialect()))
                yield Job(key, question, jpeg, number, name)

    def _question(self, prompt: str, digest: bytes, number: int) -> Question:
        generation, stated = self._options.generation, self._options.stated
        fields: dict[str, Any] = {
            name: getattr(generation, name) for name in ("temperature", "top_p") if name in stated
        }
        if generation.sample:
            fields["seed"] = stream_seed(digest, generation.seed, number) & SEED_BITS
        if schema := self._server.schema:
            fields["response_format"] = {"type": "json_schema", "json_schema": {"name": "caption", "schema": schema}}
        return Question(
            self._server.model, prompt, self._options.system, generation.max_new_tokens, fields | self._server.extra
        )

    def _check_model(self, client: Client) -> None:
        """Note what the list of models leaves open. Raises ServerError if the server or the model is not there."""
        name = client.address.name
        connection = client.connection()
        try:
            response = connection.get(client.address.models, LIST_SECONDS)
        except NotConnected as error:
            advice = "" if error.is_tls else f"\n{START}"
            raise ServerError(f"the server {name} cannot be reached: {error}{advice}") from error
        except NoResponse as error:
            self._note(f"{name} does not list its models ({error}), so {self._server.model} was not looked for")
            return
        finally:
            connection.close()
        self._check_response(response, name)
        listed = read_models(response)
        if not listed:
            found = " (it answered with a web page)" if is_page(response) else ""
            self._note(f"{name} does not list its models{found}, so {self._server.model} was not looked for")
        elif not is_listed(self._server.model, listed):
            more = f", and {len(listed) - NAMES} more" if len(listed) > NAMES else ""
            raise ServerError(
                f"{name} has no model {self._server.model}\nIt has: "
                f"{self._key.removed_from(', '.join(map(_shown, listed[:NAMES])))}{more}"
            )

    def _check_response(self, response: Response, name: str) -> None:
        """Raise ServerError for what no request of this run would get past."""
        outcome = None if response.status in (200, *NO_LIST) else outcome_of(response)
        if isinstance(outcome, Fatal):
            raise ServerError(f"{name}: {redact(self._key.removed_from(outcome.message))}")

    def _report(self) -> None:
        budget = self._budget
        if not budget.answers:
            return
        tokens = f": {budget.total.prompt:,} tokens in, {budget.total.completion:,} out" if budget.is_counted else ""
        cost = f", cost {budget.cost:.4f}" if budget.price is not None and budget.is_counted else ""
        requests = "1 request" if budget.requests == 1 else f"{budget.requests:,} requests"
        self._note(f"{requests} to {self._names}{tokens}{cost}")


class Gathered:
    """Puts the captions of each image together as they come; an image fails with the first of them that does."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._parts: dict[Hashable, dict[int, Caption | NoAnswer]] = {}

    def add(self, job: Job, answer: Caption | NoAnswer) -> Caption | NoAnswer | None:
        """The prediction for an image once all its captions are there."""
        parts = self._parts.setdefault(job.key, {})
        parts[job.number] = answer
        if len(parts) < self._count:
            return None
        del self._parts[job.key]
        captions: list[Caption] = []
        for _, part in sorted(parts.items()):
            if isinstance(part, NoAnswer):
                return part
            captions.append(part)
        return replace(captions[0], others=tuple(captions[1:]))


def check_privacy(address: Address, *, insecure: bool) -> None:
    """Raise UsageError if images would go to a public address where everybody on the way can read them."""
    if address.is_tls or address.is_local or insecure:
        return
    if is_public([address.host]) or is_public(resolved(address.host, address.port)):
        raise UsageError(
            f"{address.host} is a public address: without https, everybody on the way could read your images\n"
            "Give its https:// address, or use --insecure"
        )


def budget_for(server: ServerSpec, options: CaptionOptions) -> Budget:
    """The limits of a run. Raises UsageError if its cost is limited and no price is known."""
    if options.max_cost is not None and server.price is None:
        raise UsageError(
            "--max-cost needs the price of the model: write [server.price] with input and output in its TOML file"
        )
    # An answer that is cut is asked for again with twice the tokens.
    return Budget(options.max_requests, options.max_cost, server.price, 2 * options.generation.max_new_tokens)


def _shown(name: str) -> str:
    return strip_invisible(name)[:100]

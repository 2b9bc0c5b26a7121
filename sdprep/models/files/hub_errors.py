"""What huggingface_hub's errors mean, in two lines with a way out and without any secret."""

from __future__ import annotations

import logging
from pathlib import Path

from sdprep.sanitize import redact

WAYS_OUT = (
    "Alternatives: a folder with the model's files (--model ./folder), a mirror (HF_ENDPOINT=https://...), "
    "or `sdprep demo`, which downloads nothing"
)
# By the name of the class, so that a module which only words messages imports no client. The most derived name wins.
ADVICE = {
    "OfflineModeIsEnabled": "HF_HUB_OFFLINE=1 is set, so {repo} cannot be downloaded, and it is not on this machine\n"
    + WAYS_OUT,
    "GatedRepoError": (
        "{repo} is gated\nAccept its licence on {endpoint}/{repo}, then set HF_TOKEN to a token of that account"
    ),
    "RevisionNotFoundError": (
        "{repo} has no revision {revision}\nIts branches, tags and commits are on {endpoint}/{repo}"
    ),
    "RepositoryNotFoundError": (
        "there is no {repo} on {endpoint}, nor a folder of that name here\n"
        "If it is private, set HF_TOKEN to a token that may read it"
    ),
}
REFUSED = "{endpoint} refuses {repo} (HTTP {status})\nSet HF_TOKEN to a valid token that may read it"
UNWRITABLE = "cannot store {repo} in {cache}: {reason}\nSet HF_HOME to a folder that can be written"
FAILED = "cannot download {repo} from {endpoint}: {reason}\n" + WAYS_OUT


def explain(error: BaseException, model: str, endpoint: str, cache: Path) -> str:
    """Word an error that downloading `owner/name@revision` has met."""
    repo, _, revision = model.partition("@")
    names = [kind.__name__ for kind in type(error).__mro__]
    if "LocalEntryNotFoundError" in names and error.__cause__ is not None:
        return explain(error.__cause__, model, endpoint, cache)
    status = getattr(getattr(error, "response", None), "status_code", None)
    template = next((ADVICE[name] for name in names if name in ADVICE), FAILED)
    reason = _reason(error, status)
    if status in (401, 403) and template is FAILED:
        template = REFUSED
    elif status is None and template is FAILED and isinstance(error, OSError) and error.strerror:
        template, reason = UNWRITABLE, error.strerror
    return template.format(repo=repo, revision=revision, endpoint=endpoint, cache=cache, status=status, reason=reason)


def _reason(error: BaseException, status: int | None) -> str:
    if status is not None:
        return f"it answers HTTP {status}" + (", which a Hub would not" if status == 404 else "")
    if isinstance(error, (ValueError, TypeError, KeyError, AttributeError)):
        return "its answer is not that of a Hub; is HF_ENDPOINT right?"
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return redact(first)[:200]


class _Clean(logging.Filter):
    """Takes secrets out of a record."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), ()
        if record.exc_info:
            # What stands here already is not made anew.
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
        return True


def keep_log_clean(log: logging.Logger) -> None:
    """Let a log name no password: that of huggingface_hub names whole addresses when a download breaks."""
    for handler in log.handlers:
        if not any(isinstance(each, _Clean) for each in handler.filters):
            handler.addFilter(_Clean())

"""Run a task, print its report, and exit with its exit code."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

import click

from sdprep.cli.output import print_json, print_table
from sdprep.cli.progress import Terminal
from sdprep.cli.signals import run_signals
from sdprep.cli.talk import GREEN, RED, YELLOW, Level, current
from sdprep.report import GO_ON, CancelToken, RunReport
from sdprep.types import KeptReason

MODEL_COMMANDS = ("caption", "tag")
# The most paths that are printed with one reason, unless --verbose is given.
NAMED = 5
# The sidecars that merge looks for, by field.
LACKING = {"caption": "a caption", "tags": "tags"}


def run_task(task: Callable[..., RunReport], *args: Any, json_report: bool, **kwargs: Any) -> None:
    """Run a task, print its report, and exit with its exit code."""
    stop, terminal = CancelToken(), Terminal()
    with run_signals(stop):
        try:
            report = task(*args, listener=terminal, stop=stop, **kwargs)
        finally:
            terminal.close()
    print_report(report, json_report=json_report)


def print_report(report: RunReport, *, json_report: bool) -> None:
    """Print a report and exit with its exit code."""
    if json_report:
        print_json(report.as_dict())
    else:
        for tag, count in (report.tag_counts or {}).items():
            click.echo(f"{tag}: {count}")
    summarize(report)
    sys.exit(report.exit_code)


def summarize(report: RunReport) -> None:
    """Print the outcome of a run: first what needs your attention, then the counts, then what ran."""
    print_failures(report.failures, report.failed_before, report.retry)
    _say_kept(report)
    for message, paths in _remarks(report).items():
        _say(f" {_names(paths)}", f"{message}:", YELLOW)
    for change in ("restore", "delete"):
        if paths := [each["path"] for each in report.planned if each["change"] == change]:
            _say(f"would {change} {_names(paths, 'file')}")
    _say_orphans(report.orphans)
    if report.recognised:
        one = report.recognised == 1
        _say("1 sidecar recognised at a new path" if one else f"{report.recognised} sidecars recognised at new paths")
    if report.asked_again:
        again = "1 request was" if report.asked_again == 1 else f"{report.asked_again} requests were"
        _say(f" {again} made again: an earlier run ended before it had stored the answer", "asked again:", YELLOW)
    if report.stale:
        _say(f" {_names(report.stale)}: tags in the prompt have changed since; --update renews it", "stale:", YELLOW)
    if report.other_settings:
        _say(f"{report.other_settings} were made with other settings; --update brings them in line")
    _say(f" {_counts(report)}", f"{report.command}:", RED if report.failed else GREEN)
    if report.shards is not None:
        _say_shards(report.shards, report.failed - len(report.failures))
    if report.stopped is not None and report.command not in ("undo", "export"):
        _say(f"interrupted; {GO_ON}")
    if report.output:
        _say(report.output)
    elif report.predicted:
        served = f", which answered with {', '.join(report.served)}" if report.served else ""
        _say(f"model {report.model} on {report.provider}{served}")
    elif _had_nothing_to_do(report):
        _say("nothing to do, and no model was loaded")
    elif report.command in MODEL_COMMANDS and report.written:
        _say(f"model {report.model}, stored results only")
    if report.timings is not None:
        rows = [("stage", "images", "seconds", "CPU seconds")]
        for name, stage in report.timings.items():
            rows.append((name, str(stage["images"]), f"{stage['seconds']:.3f}", f"{stage['cpu_seconds']:.3f}"))
        print_table(rows, right=range(1, 4), echo=current().say)


def print_failures(
    failures: Iterable[Mapping[str, str]], failed_before: Collection[str] = (), retry: Sequence[str] = ()
) -> None:
    """Print the files that failed, those with one reason together; those that were not tried again are counted.

    `retry` has the commands after which they are tried again.
    """
    # With --verbose they are named, too.
    before = frozenset() if current().level is Level.DETAIL else frozenset(failed_before)
    groups: dict[tuple[str, str], list[str]] = {}
    again: Counter[str] = Counter()
    for each in failures:
        if each["path"] in before:
            again[each["code"]] += 1
        else:
            groups.setdefault((each["code"], each["message"]), []).append(each["path"])
    for (code, message), paths in groups.items():
        _say(f" {_names(paths)}: {code}: {message}", "failed:", RED, Level.ERROR)
    if again:
        codes = ", ".join(f"{count} {code}" for code, count in again.most_common())
        what = f" {again.total()} as before ({codes}); they are tried again after: {'; '.join(retry)}"
        _say(what, "failed:", RED, Level.ERROR)


def _remarks(report: RunReport) -> dict[str, list[str]]:
    """The images by what is remarkable about them."""
    remarks: dict[str, list[str]] = {}
    for flag in report.flagged:
        remarks.setdefault(flag["message"], []).append(flag["path"])
    # Where every image of a merge lacks one, a note says which kind.
    if 0 < report.missing < report.found or (report.missing and report.command != "merge"):
        remarks["a sidecar is missing"] = report.missing_paths
    if report.image_changed:
        remarks["kept although the image has changed"] = report.image_changed
    return remarks


def _say_kept(report: RunReport) -> None:
    for reason, paths in report.kept_reasons.items():
        # What was asked for has not been done: this is named with --quiet too.
        level = Level.ERROR if reason == KeptReason.CHANGED_MEANWHILE else Level.NOTE
        _say(f" {_names(paths)}: {_why_kept(reason, report.command)}", "kept the sidecar of", YELLOW, level)


def _why_kept(reason: str, command: str) -> str:
    """Why sidecars were kept, and what changes that."""
    other = "tag" if command == "caption" else "caption"
    add_or_replace = "--existing append adds to it, --existing overwrite replaces it"
    return {
        KeptReason.FOREIGN: f"yours: not written by sdprep, or approved ({add_or_replace})",
        KeptReason.EDITED: f"edited since sdprep wrote it ({add_or_replace})",
        KeptReason.OTHER_TASK: f"written by sdprep {other} (--existing append adds to it, or use another "
        "--caption-extension)",
        KeptReason.NOT_EMPTY: "not empty, and --existing fill only fills empty ones",
        KeptReason.NOTHING_TO_ADD: "it has all that would be added",
        KeptReason.CHANGED_MEANWHILE: "changed during the run (run the command again)",
        KeptReason.DIFFERENT: "it has another text (--existing overwrite replaces it)",
    }[KeptReason(reason)]


def _counts(report: RunReport) -> str:
    what = "file" if report.command in ("clean", "import", "restore", "undo") else "image"
    found = f"{report.found} {what}{'' if report.found == 1 else 's'}"
    counts = f"{report.written} written, {report.current} up to date, {report.kept} kept, {report.failed} failed"
    planned = "would be changed" if report.command == "undo" else "would be written"
    remaining = planned if report.dry_run else "remaining"
    lacking = "".join(f", {count} without {LACKING[name]}" for name, count in report.lacking.items())
    return f"{found}: {counts}, {report.remaining} {remaining}{lacking} ({report.seconds:.1f} s)"


def _had_nothing_to_do(report: RunReport) -> bool:
    is_current = report.command in MODEL_COMMANDS and report.current == report.found
    return is_current and report.provider is None and report.stopped is None


def _say_shards(counts: Mapping[str, int], unnamed: int) -> None:
    """Print the counts of shards, and how many failures have no name in the report."""
    found = "1 shard" if counts["found"] == 1 else f"{counts['found']} shards"
    damaged = f" ({counts['damaged']} damaged)" if counts["damaged"] else ""
    done = f"{counts['done']} done{damaged}, {counts['before']} done before or by others"
    _say(f"{found}: {done}, {counts['failed']} given up, {counts['remaining']} remaining")
    if unnamed:
        _say(f"{unnamed} more images failed; the results have the reason for each")


def _names(paths: Sequence[str], what: str = "image") -> str:
    """The first names of some files, or all of them with --verbose."""
    if len(paths) == 1:
        return paths[0]
    shown = paths if current().level is Level.DETAIL else paths[:NAMED]
    more = ", ..." if len(shown) < len(paths) else ""
    return f"{len(paths)} {what}s ({', '.join(shown)}{more})"


def _say_orphans(orphans: Sequence[Mapping[str, str | None]]) -> None:
    shown = orphans if current().level is Level.DETAIL else orphans[:NAMED]
    for orphan in shown:
        _say(f"{orphan['path']} has no image" + (f"; {orphan['image']} has its content" if orphan["image"] else ""))
    if len(shown) < len(orphans):
        _say(f"{len(orphans) - len(shown)} more sidecars have no image (--verbose names all)")


def _say(text: str, head: str = "", style: str = "", level: Level = Level.NOTE) -> None:
    # A file name may hold a line break.
    current().say(text.replace("\n", r"\n"), head=head, style=style, level=level)

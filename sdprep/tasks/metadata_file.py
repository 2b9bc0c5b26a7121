"""The metadata JSON of a merge: as it is, and replaced through the journal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from sdprep.catalog.catalog import Catalog
from sdprep.catalog.history import versions
from sdprep.catalog.journal import FILE_LIMIT, Change
from sdprep.config import MergeSettings
from sdprep.errors import MetadataError
from sdprep.files import real_path
from sdprep.folders import read_below
from sdprep.paths import is_inside
from sdprep.report import RunReport
from sdprep.tasks.changes import replace_through_journal
from sdprep.tasks.run_info import run_info
from sdprep.texts import metadata
from sdprep.texts.metadata import Entries

OUTPUT_NAME = "metadata.json"


@dataclass(frozen=True, slots=True)
class Files:
    """The metadata JSON as it is: its path, its bytes (None: no file), its entries, and those to start from."""

    output: Path
    before: bytes | None
    held: Entries
    base: Entries


def open_metadata(directory: Path, settings: MergeSettings) -> Files:
    """Read the output of a merge over a folder, and what it starts from. Raises MetadataError naming the file."""
    output = settings.output or (settings.paths.output_dir or directory) / OUTPUT_NAME
    if output.is_symlink() and not is_inside(output, output.parent):
        raise MetadataError(f"{output} is a link that leaves its folder; name the file itself with -o")
    try:
        before = read_below(real_path(output.parent), real_path(output.parent) / output.name, FILE_LIMIT)
    except OSError as error:
        raise MetadataError(f"{output}: {error.strerror or error}") from error
    held = metadata.parse(before, output) if before else {}
    base = held if settings.in_json is None else metadata.load(settings.in_json)
    return Files(output, before, held, base)


def recall_metadata(files: Files, catalog: Catalog) -> Files:
    """Take an output of 0 bytes, which a power cut or a full disk left, for the text that the catalog has of it."""
    if files.before != b"" or files.base is not files.held:
        return files
    known = [version.text for version in versions(catalog, real_path(files.output)) if version.text is not None]
    data = catalog.text(known[-1]) if known else b""
    return replace(files, base=metadata.parse(data, files.output)) if data else files


def replace_metadata(files: Files, after: bytes, catalog: Catalog, settings: MergeSettings, report: RunReport) -> None:
    """Replace the metadata JSON through the journal of the images' catalog, wherever the JSON lies.

    Raises MetadataError if the file is no longer what it was or cannot be written, WriteError on a full disk.
    """
    path = real_path(files.output)
    info = run_info("merge", settings, None)
    report.run = info.uid
    try:
        replace_through_journal(catalog, info, Change(path, files.before, after))
    except OSError as error:
        raise MetadataError(f"{path} cannot be written: {error.strerror}. Run the merge again") from error
    with catalog.transaction():
        catalog.end_run(info.uid, report.as_dict())

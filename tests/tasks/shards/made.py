"""Results as a run over shards makes them, of what `sdprep tag` has stored for a folder, or of captions."""

from contextlib import closing
from hashlib import sha256
from pathlib import Path

from sdprep.catalog.catalog import Catalog
from sdprep.catalog.results import encode_caption
from sdprep.config import CaptionSettings, TagSettings
from sdprep.models.files.hub import find_local
from sdprep.shards.results import Results, RunRecord, Shard
from sdprep.shards.store import Store
from sdprep.shards.table import Row, ShardFacts
from sdprep.tasks.annotation.job import Job, truncated_key
from sdprep.tasks.caption import Captioning
from sdprep.tasks.shards.text import with_text
from sdprep.tasks.tag import Tagging, tag
from sdprep.types import Caption


def job_of(settings: TagSettings | CaptionSettings) -> Job:
    """What a run with these settings makes of an image."""
    made = Tagging(settings, note=print) if isinstance(settings, TagSettings) else Captioning(settings)
    return made.job(find_local(made.spec))


def results_of(store: Store, folder: Path, settings: TagSettings) -> Results:
    """The results of a run over one shard with the images of a folder, which is tagged for it."""
    tag(folder, settings)
    job = job_of(settings)
    assert job.result_key is not None
    with closing(Catalog(folder / ".sdprep" / "catalog.sqlite", folder, dry_run=True)) as catalog:
        digests = dict(catalog.db.execute("SELECT key, digest FROM images ORDER BY key"))
        failures = {row[0]: row[1:] for row in catalog.db.execute("SELECT digest, code, message FROM failures")}
        found = {}
        for key, warnings in ((job.result_key, ()), (truncated_key(job.result_key), ("truncated",))):
            if (recipe := catalog.known_recipe(key)) is not None:
                found |= {each: (data, warnings) for each, data in catalog.results([*digests.values()], recipe).items()}
    rows = [
        Row(name, name, *failures[digest], digest=digest)
        if digest in failures
        else with_text(Row(name, name, digest=digest, result=found[digest][0], warnings=found[digest][1]), job)
        for name, digest in digests.items()
    ]
    return _recorded(store, folder, settings, job, rows)


def captions_of(store: Store, folder: Path, settings: CaptionSettings) -> Results:
    """The results of a run over one shard in which the caption of each image is its name, which needs no model."""
    job, rows = job_of(settings), []
    for path in sorted(folder.iterdir()):
        caption = Caption(f"a drawing of {path.stem}", 4, "stop", -0.5)
        digest = sha256(path.read_bytes()).digest()
        rows.append(with_text(Row(path.stem, path.name, digest=digest, result=encode_caption(caption)), job))
    return _recorded(store, folder, settings, job, rows)


def _recorded(
    store: Store, folder: Path, settings: TagSettings | CaptionSettings, job: Job, rows: list[Row]
) -> Results:
    results, task = Results(store), job.request.task
    results.begin(
        RunRecord(
            task,
            str(settings.model),
            dict(job.request.settings),
            job.result_key or {},
            {"inputs": [str(folder)]},
            decoder=job.decoder,
            extension=job.extension,
        )
    )
    results.plan(lambda: [Shard("0000", str(folder))])
    results.commit("0000", rows, ShardFacts(task))
    return results

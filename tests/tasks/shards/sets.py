"""Small tars of images, and the rows that a run over them has made."""

import io
from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from sdprep.config import RunOptions, TagSettings
from sdprep.report import NullListener, RunReport
from sdprep.shards.plan import Sources
from sdprep.shards.results import Results
from sdprep.shards.table import Row
from sdprep.tasks.shards.run import run_shards
from sdprep.tasks.shards.settings import ShardOptions
from tests.engines.engine import FAKES
from tests.shards.tars import tar


def png(number: int, size: tuple[int, int] = (8, 6)) -> bytes:
    """An image, no two of different numbers alike."""
    stream = io.BytesIO()
    Image.new("RGB", size, (number % 256, number // 256, 90)).save(stream, "PNG")
    return stream.getvalue()


def write_tars(folder: Path, count: int, images: int = 3) -> list[str]:
    """Tars `00.tar`, `01.tar` and so on; the names of their images."""
    names = []
    for shard in range(count):
        members = {f"{shard}{number:03}.png": png(shard * 1000 + number) for number in range(images)}
        (folder / f"{shard:02}.tar").write_bytes(tar(members))
        names += members
    return names


def settings(**values: object) -> TagSettings:
    """Settings of a run with a model that loads in no time."""
    return TagSettings(model=str(FAKES / "fake-tag.toml"), run=RunOptions(workers=1, batch_size=2), **values)


def run(results: Path | str, *sources: Path | str, listener: object = None, **options: object) -> RunReport:
    """Tag the images of these sources."""
    values = {name: options.pop(name) for name in ("settings", "stop") if name in options}
    chosen = ShardOptions(results=str(results), sources=Sources.of(map(str, sources)), **options)
    stop = values.get("stop")
    return run_shards(values.get("settings") or settings(), chosen, listener=listener or NullListener(), stop=stop)


def rows(results: Path | str) -> list[Row]:
    """The rows of all objects."""
    found = Results.at(str(results))
    return [row for shard in sorted(found.done()) for row in found.rows(shard, "tag")]


def outcomes(results: Path | str) -> Mapping[str, str]:
    """The outcome of each image by its member; that of a whole tar by ""."""
    found = rows(results)
    assert len({row.member for row in found}) == len(found)
    return {row.member: row.outcome for row in found}

"""Whatever people write in their sidecars, exporting and importing it gives the same text."""

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sdprep.tasks.exchange.export import export
from sdprep.tasks.exchange.import_ import import_
from sdprep.tasks.exchange.settings import ExportSettings, ImportSettings
from sdprep.texts.exchange.targets import TargetName
from tests.tasks.exchange.conftest import write_dataset

# Accents in one character and in two, right to left, emoji of several characters, quotes, separators of other formats.
ODD = [
    "é",
    "e\u0301",
    "שלום",
    "مرحبا",
    "👩‍👩‍👧",
    "🏳️‍🌈",
    '"',
    "'",
    "\\",
    ",",
    ";",
    "\t",
    "{a|b}",
    "\u2028",
    "\u0085",
    "#",
    ": ",
    "<|>",
    "%",
]
TEXT = st.lists(
    st.one_of(st.sampled_from(ODD), st.text(st.characters(exclude_categories=("C",)), max_size=8)), max_size=6
)
LINES = st.lists(TEXT.map("".join), min_size=1, max_size=3)


def as_read(data: bytes) -> str:
    """A sidecar as every command reads it: the kind of line ends, and white space around it, is not its text."""
    return data.decode().removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").strip()


NAMES = [f"{folder}{number}.png" for folder in ("", "sub/") for number in range(3)]
TEXTS = st.lists(st.tuples(LINES, LINES, st.sampled_from(["\n", "\r\n"])), min_size=len(NAMES), max_size=len(NAMES))


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("bare"), dict.fromkeys(NAMES, (None, None)))


@pytest.mark.parametrize("target", ["sd-scripts", "imagefolder", "webdataset", "parquet"])
@settings(max_examples=8)
@given(texts=TEXTS)
@example(texts=[(["x" * 100_000], ["y, " * 30_000], "\n"), (["", "two"], [""], "\r\n")])
def test_a_text_survives(bare: Path, target: TargetName, texts: list[tuple[list[str], list[str], str]]) -> None:
    wanted = {}
    for name, (captions, tags, end) in zip(NAMES, texts, strict=False):
        wanted[name.replace(".png", ".caption")] = end.join([*captions, ""])
        # Trainers read one line of tags.
        wanted[name.replace(".png", ".txt")] = (", " if target == "sd-scripts" else end).join(tags) + end
    with tempfile.TemporaryDirectory() as place:
        imgs, out = Path(place) / "imgs", Path(place) / "out"
        shutil.copytree(bare, imgs)
        for name, text in wanted.items():
            (imgs / name).write_bytes(text.encode())
        export(imgs, ExportSettings(target=target, output=out))
        for name in wanted:
            (imgs / name).unlink()
        import_(out, ImportSettings(into=imgs))
        found = {name: as_read((imgs / name).read_bytes()) for name in wanted if (imgs / name).exists()}
        # sd-scripts put a comma beside a blank text, so it is left out for them.
        assert found == {
            name: as_read(text.encode())
            for name, text in wanted.items()
            if target != "sd-scripts" or as_read(text.encode()) or name in found
        }

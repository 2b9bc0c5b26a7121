"""The HTML page of `sdprep stats`: one file that loads nothing, with small images of what stands out."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from html import escape

from PIL import Image

from sdprep.images.decode import decode
from sdprep.sanitize import printable
from sdprep.tasks.texts.stats import Outlier, Stats
from sdprep.tasks.texts.stats_tables import Table, tables
from sdprep.types import Failure, Fit, ImageItem

# The longer side of a small image in pixels, and its quality as WebP.
SIDE, QUALITY = 192, 80
# The page may load nothing, and run nothing, whatever is in names and texts.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
STYLE = """
:root { color-scheme: light dark; --line: #8884; --bar: #4a86c855; }
* { box-sizing: border-box; }
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0 0 1rem; }
h2 { font-size: 1.05rem; margin: 0 0 .5rem; }
.tables { columns: 34rem; column-gap: 2.5rem; }
section { break-inside: avoid; margin-bottom: 1.8rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .2rem .5rem .2rem .2rem; border-bottom: 1px solid var(--line); }
th { font-weight: 500; opacity: .7; }
th { white-space: nowrap; }
td { overflow-wrap: break-word; }
td:first-child { min-width: 7rem; }
.right { text-align: right; white-space: nowrap; }
.note { opacity: .75; margin: .4rem 0 0; font-size: .9rem; overflow-wrap: anywhere; }
.images { display: grid; grid-template-columns: repeat(auto-fill, minmax(10.5rem, 1fr)); gap: 1rem; }
figure { margin: 0; }
.frame { height: 12rem; display: flex; align-items: center; justify-content: center; background: var(--line);
  border-radius: 4px; overflow: hidden; text-align: center; padding: .3rem; font-size: .85rem; }
img { max-width: 100%; max-height: 100%; }
figcaption { font-size: .85rem; overflow-wrap: anywhere; margin-top: .3rem; }
figcaption b { display: block; }
""".strip()


def page(found: Stats) -> str:
    """The page of a dataset."""
    title = f"{found.images:,} images"
    parts = [f"<section>{_table(each)}</section>" for each in tables(found) if each.title not in found.outliers]
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="viewport" content="width=device-width">\n<title>sdprep stats: {title}</title>\n'
        f"<style>\n{STYLE}\n</style>\n</head>\n<body>\n<h1>{title}</h1>\n"
        f'<div class="tables">\n{chr(10).join(parts)}\n</div>\n{chr(10).join(_galleries(found))}\n</body>\n</html>\n'
    )


def _text(text: str) -> str:
    return escape(printable(text))


def _table(table: Table) -> str:
    head = "".join(_cell("th", name, column, table) for column, name in enumerate(table.head))
    rows = "\n".join(
        f"<tr>{''.join(_cell('td', cell, column, table) for column, cell in enumerate(row))}</tr>" for row in table.rows
    )
    head = f"<tr>{head}</tr>\n" if any(table.head) else ""
    note = f'\n<p class="note">{_text(table.note)}</p>' if table.note else ""
    return f'<h2>{_text(table.title)}</h2>\n<div class="scroll"><table>\n{head}{rows}\n</table></div>{note}'


def _cell(name: str, text: str, column: int, table: Table) -> str:
    kind = ' class="right"' if column in table.right else ""
    bar = ""
    if name == "td" and column == table.share:
        bar = f' style="background: linear-gradient(to right, var(--bar) {text}, transparent {text})"'
    return f"<{name}{kind}{bar}>{_text(text)}</{name}>"


def _galleries(found: Stats) -> Iterator[str]:
    small = {path: _small(item) for path, item in found.items.items()}
    for title, some in found.outliers.items():
        figures = "\n".join(_figure(each, small[each.path]) for each in some)
        yield f'<section><h2>{_text(title)}</h2>\n<div class="images">\n{figures}\n</div></section>'


def _figure(each: Outlier, small: str) -> str:
    caption = f"<figcaption><b>{_text(each.detail)}</b>{_text(each.path)}</figcaption>"
    return f'<figure><div class="frame">{small}</div>{caption}</figure>'


def _small(item: ImageItem) -> str:
    """The image in small, or why there is none."""
    decoded = decode(item, Fit(SIDE, "inside"))
    if isinstance(decoded, Failure):
        return _text(decoded.code.value)
    file = io.BytesIO()
    Image.fromarray(decoded.pixels).save(file, "WEBP", quality=QUALITY)
    return f'<img alt="" src="data:image/webp;base64,{base64.b64encode(file.getvalue()).decode("ascii")}">'

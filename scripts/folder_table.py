"""The table of folders in docs/architecture.md, made from the first sentence of each folder's `__init__.py`."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]


def folder_table() -> str:
    """Return the table as Markdown: folder, what belongs there, its modules."""
    rows = ["| folder | what belongs there | modules |", "|---|---|---|"]
    for init in sorted((ROOT / "sdprep").rglob("__init__.py")):
        first_line = (ast.get_docstring(ast.parse(init.read_text("utf-8"))) or "").partition("\n")[0]
        sentence = first_line.partition(". ")[0].rstrip(".")
        modules = [path.stem for path in sorted(init.parent.glob("*.py")) if not path.stem.startswith("__")]
        folder = init.parent.relative_to(ROOT).as_posix()
        rows.append(f"| `{folder}/` | {sentence} | {', '.join(modules) or 'data only'} |")
    return "\n".join(rows)

"""Measures sdprep on this machine, prints the tables, and adds them to `benchmarks/RESULTS.md`: `scripts/bench`.

    scripts/bench --kohya CHECKOUT --kohya-python PYTHON     all sections; hours
    scripts/bench --quick                                    the same with few images and repeats, printed only
    scripts/bench --only peers --only start                  some sections

Contestants take turns, and every figure is a median with its least and greatest value. Processor seconds are those of
all processes of a command: on a machine that is shared they are steadier than the clock.
"""

from __future__ import annotations

import argparse
import datetime
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from benchmarks import decoding, tag
from benchmarks.measure import ROOT, machine, run

RESULTS = Path(__file__).with_name("RESULTS.md")


def caption(plan: tag.Plan) -> str:
    """`benchmarks/caption.py` with its own tables."""
    repeats = ("--repeats", str(plan.repeats))
    runs = [("speed", "--images", "4"), ("speed", "--images", "4", "--beams", "3", "--against", "4")]
    return "\n".join(run([sys.executable, "-m", "benchmarks.caption", *words, *repeats]).out for words in runs)


def growth(plan: tag.Plan) -> str:
    """`benchmarks/growth.py` with its own table."""
    plan.work.mkdir(parents=True, exist_ok=True)
    sizes = [str(count) for count in (plan.many // 100, plan.many // 10, plan.many)]
    return run([sys.executable, "-m", "benchmarks.growth", "--folder", plan.work, "--sizes", *sizes]).out


SECTIONS: dict[str, tuple[str, Callable[[tag.Plan], str]]] = {
    "start": ("Help", tag.start),
    "peers": ("Tagging, against other taggers", tag.against_peers),
    "loader": ("Tagging, against its floor: the loader", tag.loader_floor),
    "decoding": ("Decoding, fast and exact", decoding.decoding),
    "models": ("Tagging, against its floor: models of real shapes", tag.model_floors),
    "int8": ("Tagging with int8", tag.int8),
    "growth": ("What grows with a dataset", growth),
    "memory": ("Memory", tag.memory),
    "caption": ("Captioning", caption),
}


def main() -> int:
    """Measure, print and note down; 1 if a section failed, which does not keep the others from being measured."""
    given = parser().parse_args()
    plan = plan_of(given)
    append, form = (not given.quick if given.append is None else given.append), "quick" if given.quick else "full"
    say(f"\n## {datetime.date.today()}, {form}\n\n{machine()}\n", append)
    failed = False
    for name in given.only or SECTIONS:
        heading, measure = SECTIONS[name]
        try:
            text = measure(plan)
        except (RuntimeError, OSError, ValueError):
            # The reason names folders of this machine: it is no part of the results.
            traceback.print_exc()
            text, failed = "Not measured: it failed.\n", True
        say(f"\n### {heading} (`--only {name}`)\n\n{text}", append)
    return int(failed)


def plan_of(given: argparse.Namespace) -> tag.Plan:
    """The plan of a command line."""
    kohya = None if given.kohya is None else (given.kohya.resolve(), given.kohya_python.absolute())
    wd14 = None if given.wd14 is None else (given.wd14.resolve(), given.wd14_python.absolute())
    plan = tag.Plan(work=given.work.resolve(), repeats=given.repeats, kohya=kohya, wd14=wd14)
    return replace(plan, repeats=2, images=60, slow_images=8, many=1000) if given.quick else plan


def parser() -> argparse.ArgumentParser:
    """The options."""
    made = argparse.ArgumentParser(prog="scripts/bench", description=__doc__,
                                   formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    made.add_argument("--quick", action="store_true", help="few images, two repeats")
    made.add_argument("--only", choices=SECTIONS, action="append", help="this section; may be given several times")
    made.add_argument("--repeats", type=int, default=5)
    made.add_argument("--append", action=argparse.BooleanOptionalAction, help="to RESULTS.md [yes, unless --quick]")
    made.add_argument("--work", type=Path, default=ROOT / ".bench", help="folder of images and models, kept")
    made.add_argument("--kohya", type=Path, metavar="CHECKOUT", help="sd-scripts")
    made.add_argument(
        "--kohya-python", type=Path, default=Path(sys.executable), metavar="PYTHON", help="that can run it"
    )
    made.add_argument("--wd14", type=Path, metavar="CHECKOUT", help="wd14-tagger-standalone")
    made.add_argument(
        "--wd14-python", type=Path, default=Path(sys.executable), metavar="PYTHON", help="that can run it"
    )
    return made


def say(text: str, append: bool) -> None:
    """Print, and note down at once: what was measured is kept if the rest is broken off."""
    print(text, flush=True)
    if append:
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(text)


if __name__ == "__main__":
    sys.exit(main())

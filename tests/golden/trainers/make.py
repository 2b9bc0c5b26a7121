"""Write prompts.json: what the trainers' own loaders read from the dataset that dataset.json describes."""

# ruff: noqa: ARG002, ARG005, PTH113, PTH122, RUF012 - it speaks to the classes of others

from __future__ import annotations

import importlib.abc
import importlib.machinery
import inspect
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import types
from pathlib import Path
from unittest.mock import MagicMock

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
from dataset import build, load_dataset, load_metadata, write_rows  # noqa: E402

# What the loaders import at the top and do not use to read text.
UNUSED = [
    "torchvision",
    "torchaudio",
    "diffusers",
    "transformers",
    "accelerate",
    "deepspeed",
    "bitsandbytes",
    "einops",
    "huggingface_hub",
]
OWN = ("simpletuner", "toolkit", "utils", "library", "mgds", "jobs", "extensions")
# Missing packages that libraries look for and can do without.
OPTIONAL = (
    "pytz dateutil numexpr bottleneck numba matplotlib xlrd odf tabulate jinja2 scipy sympy jax polars tensorflow "
    "pyspark faiss lz4 zstandard torchcodec nibabel pdfplumber brotli brotlicffi h2 socks cchardet chardet simplejson "
    "ujson orjson defusedxml olefile cffi pycparser IPython ipywidgets"
).split()


class Anything(type):
    def __getattr__(cls, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock()

    def __getitem__(cls, key):
        return MagicMock()

    def __setitem__(cls, key, value):
        pass


class Stub(types.ModuleType):
    __path__: list[str] = []

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        made = Anything(name, (object,), {"__init__": lambda *a, **k: None, "__call__": lambda *a, **k: None})
        setattr(self, name, made)
        return made


class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def __init__(self, wanted):
        self.wanted = wanted

    def find_spec(self, name, path, target=None):
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if self.wanted(name.split(".")[0]) else None

    def create_module(self, spec):
        return Stub(spec.name)

    def exec_module(self, module):
        pass


def is_missing(top):
    known = isinstance(sys.modules.get(top, Stub("")), Stub)
    return known and not top.startswith("_") and top not in (*OWN, *OPTIONAL)


def stub(*, all_missing):
    sys.meta_path.insert(0, Finder(UNUSED.__contains__))
    if all_missing:
        sys.meta_path.append(Finder(is_missing))


DEFAULTS = {
    "batch_size": 1, "resolution": (512, 512), "network_multiplier": 1.0, "enable_bucket": True, "min_bucket_reso": 256,
    "max_bucket_reso": 1024, "bucket_reso_steps": 64, "bucket_no_upscale": False, "prior_loss_weight": 1.0,
    "debug_dataset": False, "validation_split": 0.0, "validation_seed": 0, "is_training_dataset": True,
    "max_token_length": 75, "train_inpainting": False, "num_repeats": 1, "shuffle_caption": False, "keep_tokens": 0,
    "keep_tokens_separator": "", "color_aug": False, "flip_aug": False, "random_crop": False,
    "caption_dropout_rate": 0.0,
    "caption_dropout_every_n_epochs": 0, "caption_tag_dropout_rate": 0.0, "token_warmup_min": 1, "token_warmup_step": 0,
    "caption_separator": ",", "is_reg": False, "cache_info": False, "alpha_mask": False,
}  # fmt: skip


def made(cls, **given):
    """An object with the parameters given, and defaults for those without a default of their own."""
    wanted = {name: each for name, each in inspect.signature(cls.__init__).parameters.items() if name != "self"}
    needed = {name for name, each in wanted.items() if each.default is inspect.Parameter.empty}
    return cls(**{name: given.get(name, DEFAULTS.get(name)) for name in needed | (given.keys() & wanted.keys())})


def prompts_of(dataset, root):
    """The prompts of each image that is there: all that come of 400 seeds."""
    found = {}
    for key, info in dataset.image_data.items():
        subset, some = dataset.image_to_subset[key], set()
        for seed in range(400 if subset.enable_wildcard else 2):
            random.seed(seed)
            some.add(dataset.process_caption(subset, info.caption))
        if os.path.isfile(info.absolute_path):
            found[os.path.relpath(info.absolute_path, root)] = sorted(some)
    return found


def main_loader(file, train_util):
    """The FineTuningDataset of a later version, from its file alone, on the other classes of 0.10."""

    class Base(train_util.BaseDataset):
        def __init__(self, resolution, multiplier, _inpainting, debug, interpolation, skip):
            super().__init__(resolution, multiplier, debug, interpolation)
            self.skip_image_resolution = skip

    sys.modules["library.dataset"] = module = types.ModuleType("library.dataset")
    module.BaseDataset, module.ImageInfo, module.glob_images = Base, train_util.ImageInfo, train_util.glob_images
    sys.modules["library.subset"] = types.ModuleType("library.subset")
    sys.modules["library.subset"].FineTuningSubset = train_util.FineTuningSubset
    names = {"__name__": "fine_tuning_dataset"}
    exec(compile(file.read_text("utf-8"), str(file), "exec"), names)
    return names["FineTuningDataset"]


def sd_scripts(name, checkouts, root):
    is_main = name == "sd-scripts"
    sys.path.insert(0, str(checkouts / ("sd-scripts-0.10" if is_main else name)))
    import library.config_util as config
    import library.train_util as train_util

    logging.disable(logging.CRITICAL)
    loader = main_loader(checkouts / "fine_tuning_dataset.py", train_util) if is_main else train_util.FineTuningDataset
    if name == "sd-scripts-0.10":
        # As with --cache_latents; without a strategy it stops.
        train_util.LatentsCachingStrategy.set_strategy(types.SimpleNamespace(cache_suffix="_sd.npz"))
    found = {}
    for mode, wildcard in (("plain", False), ("wildcard", True)):
        folders = config.generate_dreambooth_subsets_config_by_subdirs(str(root))
        common = {"caption_extension": ".caption", "enable_wildcard": wildcard}
        subsets = [made(train_util.DreamBoothSubset, **each, **common) for each in folders]
        if not is_main:
            found[f"dreambooth {mode}"] = prompts_of(made(train_util.DreamBoothDataset, subsets=subsets), root)
        for style in ("absolute", "relative", "stem"):
            file = root.parent / "metadata.json"
            file.write_text(json.dumps(load_metadata(root, style)))
            given = {"image_dir": str(root), "metadata_file": str(file), "enable_wildcard": wildcard}
            try:
                loaded = made(loader, subsets=[made(train_util.FineTuningSubset, **given)])
            except AssertionError as error:
                # It stops at a key that it does not find.
                print(name, style, mode, error)
                found[f"{name} {style} {mode}"] = {}
            else:
                found[f"{name} {style} {mode}"] = prompts_of(loaded, root)
    return found


def onetrainer(_, checkouts, root):
    sys.path.insert(0, str(checkouts / "mgds" / "src"))
    from mgds.pipelineModules.CollectPaths import CollectPaths
    from mgds.pipelineModules.LoadMultipleTexts import LoadMultipleTexts

    extensions = [".bmp", ".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".avif"]
    paths = CollectPaths(
        "concept", "path", "deep", "on", "image", "concept", extensions, None, ["-masklabel", "-condlabel"]
    )
    paths._get_previous_length = lambda _: 1
    paths._get_previous_item = lambda _v, name, _i: {"concept": {"path": str(root), "on": True}, "deep": True}[name]
    paths.start(0)
    texts, found = LoadMultipleTexts("path", "texts"), {}
    for path in paths.paths:
        texts._get_previous_item = lambda *_, path=path: os.path.splitext(path)[0] + ".txt"
        found[os.path.relpath(path, root)] = texts.get_item(0, 0)["texts"]
    return {"onetrainer": found}


def simpletuner(_, checkouts, root):
    sys.path.insert(0, str(checkouts / "SimpleTuner"))
    from simpletuner.helpers.data_backend.local import LocalDataBackend
    from simpletuner.helpers.prompts import PromptHandler

    backend = types.SimpleNamespace(exists=os.path.exists, read=lambda path: Path(path).read_bytes())
    found = {}
    for _, _, paths in LocalDataBackend.__new__(LocalDataBackend).list_files(None, str(root)):
        for path in paths:
            try:
                got = PromptHandler.prepare_instance_prompt_from_textfile(path, True, False, backend)
            except FileNotFoundError:
                got = []
            found[os.path.relpath(path, root)] = got if isinstance(got, list) else [got]
    return {"simpletuner": found}


def ai_toolkit(_, checkouts, root):
    sys.path.insert(0, str(checkouts / "ai-toolkit"))
    from toolkit.dataloader_mixins import CaptionProcessingDTOMixin

    config = types.SimpleNamespace(
        use_short_captions=False, caption_ext=".txt", default_caption=None, diff_output_preservation=False,
        caption_dropout_rate=0, cache_text_embeddings=False, token_dropout_rate=0, shuffle_tokens=False,
        random_triggers=[],
    )  # fmt: skip
    found = {}
    for path in sorted(root.rglob("*")):
        # The extensions of toolkit/data_loader.py, whose class also loads the model.
        if path.name.lower().endswith((".jpg", ".jpeg", ".png", ".webp")):
            item = CaptionProcessingDTOMixin.__new__(CaptionProcessingDTOMixin)
            item.path, item.dataset_config, item.trigger_word, item.is_reg = str(path), config, None, False
            item.raw_caption = item.raw_caption_short = None
            item.load_caption(None)
            found[path.relative_to(root).as_posix()] = [item.caption]
    return {"ai-toolkit": found}


def diffusion_pipe(_, checkouts, root):
    sys.path.insert(0, str(checkouts / "diffusion-pipe"))
    import numpy as np
    from utils.dataset import DirectoryDataset

    found = {}
    for folder in ("10_kuro", "3_two_words"):
        one = DirectoryDataset.__new__(DirectoryDataset)
        one.path, one.directory_config = root / folder, {"shuffle_tags": False, "caption_prefix": ""}
        one.shuffle, one.shuffle_delimiter, one.skip_empty_caption = 0, ", ", True
        one.control_path, one.use_size_buckets, one.framerate = None, False, None
        one.ars, one.frame_buckets = np.array([1.0]), np.array([1])
        one.log_ars = np.log(one.ars)
        read, prompts = one._metadata_map_fn(), found.setdefault(f"diffusion-pipe {folder}", {})
        for file in sorted(one.path.glob("*")):
            text = file.with_suffix(".txt")
            # As in the enumeration of files, which is part of a larger function.
            if file.is_file() and file.suffix not in (".txt", ".npz", ".json", ".parquet", ".bak", ".db"):
                spec = {"image_spec": [(None, str(file))], "mask_file": [None]}
                got = read({"caption_file": [str(text) if text.exists() else ""], **spec})
                prompts.update({file.name: got["caption"][0]} if got["caption"] else {})
    return found


def imagefolder(_, __, root):
    import datasets

    found = {}
    for form in ("jsonl", "csv"):
        file = root / f"metadata.{form}"
        write_rows(file)
        cache = str(root.parent / f"cache-{form}")
        loaded = datasets.load_dataset("imagefolder", data_dir=str(root), cache_dir=cache)["train"]
        file.unlink()
        images = loaded.cast_column("image", datasets.Image(decode=False))
        found[f"imagefolder {form}"] = {
            os.path.relpath(row["image"]["path"], root): [row["text"] or ""] for row in images
        }
    return found


# Each loader, the extension of its texts, and whether packages that are not installed are replaced.
LOADERS = {
    "sd-scripts-0.9": (sd_scripts, ".caption", False),
    "sd-scripts-0.10": (sd_scripts, ".caption", False),
    "sd-scripts": (sd_scripts, ".caption", False),
    "onetrainer": (onetrainer, ".txt", False),
    "simpletuner": (simpletuner, ".txt", True),
    "ai-toolkit": (ai_toolkit, ".txt", True),
    "diffusion-pipe": (diffusion_pipe, ".txt", True),
    "imagefolder": (imagefolder, ".caption", None),
}


def one(name, checkouts, work):
    """Write what one loader reads to a file of its own."""
    loader, extension, all_missing = LOADERS[name]
    shutil.rmtree(work / name, ignore_errors=True)
    root = work / name / "images"
    build(root, load_dataset(), extension)
    if all_missing is not None:
        stub(all_missing=all_missing)
    found = loader(name, checkouts, root)
    (work / f"{name}.json").write_text(json.dumps(found))


def main():
    checkouts, work = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    work.mkdir(exist_ok=True)
    if len(sys.argv) > 3:
        one(sys.argv[3], checkouts, work)
        return
    found = {}
    for name in LOADERS:
        subprocess.run([sys.executable, __file__, checkouts, work, name], check=True)
        for case, prompts in json.loads((work / f"{name}.json").read_text()).items():
            # DreamBooth folders are read alike by both versions.
            assert found.setdefault(case, prompts) == prompts, case
    (HERE / "prompts.json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()

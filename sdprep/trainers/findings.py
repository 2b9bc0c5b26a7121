"""What `sdprep check` can find: a closed list of codes, each with its severity, a sentence, and what to do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Literal

# An error stops the training, or loses an image or its text; a warning changes what is trained.
Severity = Literal["error", "warning"]


class Code(str, Enum):
    """What is wrong with an image, a text or another file; a closed list."""

    NO_TEXT = "no_text"
    WRONG_EXTENSION = "wrong_extension"
    EMPTY_PROMPT = "empty_prompt"
    EMPTY_TEXT_FILE = "empty_text_file"
    NOT_UTF_8 = "not_utf_8"
    BYTE_ORDER_MARK = "byte_order_mark"
    UNREADABLE_TEXT = "unreadable_text"
    LINES_LOST = "lines_lost"
    TAGS_LOST = "tags_lost"
    PROMPT_CUT = "prompt_cut"
    WILDCARD_OFF = "wildcard_off"
    SEPARATOR_IN_PROMPT = "separator_in_prompt"
    UNRESOLVED_KEY = "unresolved_key"
    LISTED_TWICE = "listed_twice"
    NOT_LISTED = "not_listed"
    BAD_ENTRY = "bad_entry"
    WRONG_SIZE = "wrong_size"
    STEM_COLLISION = "stem_collision"
    NOT_LOADED = "not_loaded"
    STRAY_FILE = "stray_file"
    UNREADABLE_IMAGE = "unreadable_image"
    EXIF_IGNORED = "exif_ignored"
    ALPHA_DROPPED = "alpha_dropped"
    ZERO_BUCKET = "zero_bucket"
    OVERSIZED_BUCKET = "oversized_bucket"
    CROP_LOSS = "crop_loss"
    STALE_LATENTS = "stale_latents"
    STALE_TEXT_CACHE = "stale_text_cache"
    DUPLICATE_IMAGE = "duplicate_image"


@dataclass(frozen=True, slots=True)
class About:
    """How bad a finding is, what it means, and what to do."""

    severity: Severity
    sentence: str
    advice: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: a path with forward slashes, as in reports, and what is special in this case."""

    code: Code
    path: str
    detail: str = ""


ABOUT: dict[Code, About] = {
    Code.NO_TEXT: About(
        "error", "The image has no text.", "Write one with `sdprep tag` or `sdprep caption`."
    ),
    Code.WRONG_EXTENSION: About(
        "error",
        "The image has a text, but in a file with another name than the trainer looks for.",
        "Set the trainer's caption extension, and repeat the check with `--caption-extension`.",
    ),
    Code.EMPTY_PROMPT: About(
        "warning", "The prompt of the image is empty.", "Write a text, or remove the image if that is not on purpose."
    ),
    Code.EMPTY_TEXT_FILE: About(
        "error", "The text file has 0 bytes, at which the trainer stops.", "Write a text, or a single line end."
    ),
    Code.NOT_UTF_8: About(
        "error", "The text file is not UTF-8, so the trainer stops or reads nothing.", "Save it as UTF-8."
    ),
    Code.BYTE_ORDER_MARK: About(
        "warning",
        "The text begins with a byte order mark, which becomes part of the prompt.",
        "Save it as UTF-8 without a byte order mark.",
    ),
    Code.UNREADABLE_TEXT: About("error", "The text file cannot be read.", "Fix its permissions, or the link."),
    Code.LINES_LOST: About(
        "warning",
        "The text has several lines, but only the first is used.",
        "Put all on one line, or use enable_wildcard in the trainer to train each line.",
    ),
    Code.TAGS_LOST: About(
        "error",
        "The tags of the entry do not reach the prompt.",
        "Give the entry a caption of one line, or turn enable_wildcard on or off, as the detail says.",
    ),
    Code.PROMPT_CUT: About(
        "warning",
        "The prompt has more tokens than the trainer uses, so its end is cut.",
        "Shorten it, or raise max_token_length in the trainer and check again with `--max-token-length`.",
    ),
    Code.WILDCARD_OFF: About(
        "warning",
        "The text has a choice such as {a|b}, which stays in the prompt as it is.",
        "Use enable_wildcard in the trainer and `--enable-wildcard` here, or remove the braces.",
    ),
    Code.SEPARATOR_IN_PROMPT: About(
        "warning",
        "The text has `|||`, which stays in the prompt unless the trainer shuffles or drops tags.",
        "Set keep_tokens_separator together with shuffle_caption, or remove it.",
    ),
    Code.UNRESOLVED_KEY: About(
        "error",
        "The trainer finds no image for this entry.",
        "Write the metadata again with `sdprep merge --keys absolute`, which every version reads.",
    ),
    Code.LISTED_TWICE: About(
        "error",
        "The image is listed more than once, so it is trained several times, or only the last entry counts.",
        "Keep one entry.",
    ),
    Code.NOT_LISTED: About(
        "error", "The image has no entry in the metadata, so it is not trained.", "Run `sdprep merge` again."
    ),
    Code.BAD_ENTRY: About(
        "error", "The metadata has a shape that the trainer cannot read.", "Fix what the detail names."
    ),
    Code.WRONG_SIZE: About(
        "warning", "The size in the metadata is not that of the image.", "Run `sdprep merge` again."
    ),
    Code.STEM_COLLISION: About(
        "error", "Several images have the same name without extension, so they share one text.", "Rename all but one."
    ),
    Code.NOT_LOADED: About(
        "error", "The trainer does not load this image.", "Convert, rename or move it, as the detail says."
    ),
    Code.STRAY_FILE: About(
        "warning", "The trainer takes this file for an image or a video.", "Move it out of the folder."
    ),
    Code.UNREADABLE_IMAGE: About("error", "The image cannot be read.", "Replace or remove it."),
    Code.EXIF_IGNORED: About(
        "warning",
        "The image is turned by its EXIF orientation, which the trainer ignores: it sees another image than sdprep.",
        "Save the image upright.",
    ),
    Code.ALPHA_DROPPED: About(
        "warning",
        "The image has transparency, which the trainer drops: transparent areas show their hidden colour, often black.",
        "Save the image on a background without transparency, or train with its alpha channel as a mask.",
    ),
    Code.ZERO_BUCKET: About(
        "error", "A side of the bucket is 0, at which the trainer stops.", "Remove the image, or allow upscaling."
    ),
    Code.OVERSIZED_BUCKET: About(
        "warning", "A side of the bucket is above the largest one that is allowed.", "Crop the image."
    ),
    Code.CROP_LOSS: About(
        "warning", "The trainer crops away more than 20 % of the image.", "Crop or split it yourself."
    ),
    Code.STALE_LATENTS: About(
        "error",
        "The cached latents do not fit the image or the resolution, but the trainer uses them.",
        "Delete the cache file.",
    ),
    Code.STALE_TEXT_CACHE: About(
        "error",
        "The cached text encoding is older than the text, but the trainer uses it.",
        "Delete the cache file.",
    ),
    Code.DUPLICATE_IMAGE: About(
        "warning", "The same image is there several times, byte for byte.", "Keep one of them; use repeats instead."
    ),
}  # fmt: skip

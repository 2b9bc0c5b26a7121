"""One sidecar of several authors: the user, a captioner, and two taggers, each with a part of their own."""

import pytest

from sdprep.tasks.history import log, undo
from tests.stories.telling import ALBUM, STRICT, caption, counts, hide_models, tag, tags_of, texts, write

CAPTION = {"model": FAKE_CAPTION, "caption_extension": ".txt"}

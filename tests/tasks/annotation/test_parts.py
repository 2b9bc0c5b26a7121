"""Any sequence of captioning, tagging by two models and edits on one file: each author's part stays that author's."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdprep.rules.policy import TextRequest
from sdprep.tasks.annotation.job import Job
from tests.tasks.annotation.test_compose import PLACES, TRIGGER, WORDS, File, Pieces, pieces_of

GIVEN = {
    "tagger-a@1": {0.5: (TRIGGER, "1girl", "long_hair", "solo", "x_(y)"), 0.9: (TRIGGER, "1girl")},
    "tagger-b@1": {0.5: ("1girl", "Long hair", r"x \(y\)", "hat", "sky"), 0.9: ("hat", "1girl")},
    "captioner@1": {0.5: ("a girl smiling",), 0.9: ("my_Trigger a girl",)},
}
WAYS = ("keep", "append", "prepend", "overwrite", "fill")


class SharedFile(File):
    """A file between a user, two taggers and a captioner."""

    def run(self, model, existing="append", **explicit):
        task = "caption" if model.startswith("captioner") else "tag"
        values = {"model": model, "threshold": 0.5, "caption_separator": ", ", **explicit}
        request = TextRequest(task, values, frozenset(explicit) | {"model"}, existing)
        joiner = "\n" if task == "caption" else ", "
        pieces = GIVEN[model][values["threshold"]]
        is_replaced = existing == "overwrite" or (existing == "fill" and not self.text)
        self.apply(Job(request, ".txt", "stem", joiner, Pieces(pieces), {}, "decoder"))
        if is_replaced:
            self.typed, self.removed = [], set()
        if is_replaced or existing in ("append", "prepend"):
            self.pending.clear()
            self.doubtful.clear()

    @property
    def authors(self):
        return [part.model or "user" for part in self.catalog.state.content.parts]


def file_of(text):
    file = SharedFile()
    if text:
        file.save(text)
    return file


RUNS = st.tuples(st.just("run"), st.sampled_from(list(GIVEN)), st.sampled_from(WAYS), st.sampled_from([None, 0.5, 0.9]))
EDITS = st.one_of(
    st.tuples(st.just("type"), st.sampled_from(WORDS), PLACES),
    st.tuples(st.just("remove"), PLACES),
    st.just(("empty",)),
)


@pytest.mark.parametrize("start", ["", "mine, solo"], ids=["absent", "the user's text"])
def test_in_any_sequence_of_rounds_each_part_stays_its_authors(start, request):
    @settings(max_examples=request.config.getoption("--edits"), suppress_health_check=list(HealthCheck))
    @given(st.lists(RUNS | EDITS, min_size=2, max_size=10))
    def live(steps):
        file = file_of(start)
        file.typed, file.pending = pieces_of(start), set(pieces_of(start))
        for name, *details in steps:
            before = file.text
            if name == "run":
                model, existing, threshold = details
                explicit = {} if threshold is None else {"threshold": threshold}
                file.run(model, existing, **explicit)
                after = file.data
                file.run(model, existing, **explicit)
                assert file.data == after, "an identical round changed something"
                assert "\n" not in file.text
                file.check(before, existing)
            else:
                getattr(file, name)(*details)

    live()

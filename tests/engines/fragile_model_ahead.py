"""A worker that imports this has a tagger that takes a batch ahead, as chat models do, and dies of `poison.png`."""

import os
from itertools import chain, pairwise

from sdprep.images.decode import decode as decode
from sdprep.models.fake import FakeTagger

predict = FakeTagger.predict


def fragile(self, batches):
    def shown():
        for batch, _ in pairwise(chain(batches, [None])):
            if any(key.path.stem == "poison" for key in batch.keys):
                os._exit(11)
            yield batch

    return predict(self, shown())


FakeTagger.predict = fragile

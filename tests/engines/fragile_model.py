"""A worker that imports this has a tagger that dies of the image called `poison.png`."""

import os

from sdprep.images.decode import decode as decode
from sdprep.models.fake import FakeTagger

predict = FakeTagger.predict


def fragile(self, batches):
    def shown():
        for batch in batches:
            if any(key.path.stem == "poison" for key in batch.keys):
                os._exit(11)
            yield batch

    return predict(self, shown())


FakeTagger.predict = fragile

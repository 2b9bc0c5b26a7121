"""A worker that imports this has a tagger that dies of the image called `poison.png`."""

import os

from sdprep.images.decode import decode as decode
from sdprep.models.taggers.onnx_tagger import OnnxTagger

predict = OnnxTagger.predict


def fragile(self, batches):
    def shown():
        for batch in batches:
            if any(key.path.stem == "poison" for key in batch.keys):
                os._exit(11)
            yield batch

    return predict(self, shown())


OnnxTagger.predict = fragile

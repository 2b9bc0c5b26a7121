"""A decoder beside which memory runs out once: where a batch is put together, in the first process of a folder."""

from sdprep.engines import stages
from sdprep.images import decode as image

_batch = stages._batch


def decode(item, fit):
    """Decode an image; the first batch of a folder is too much."""
    mark = item.path.with_name("mark")

    def batch(decoded, *, keep_shapes):
        if not mark.exists():
            mark.touch()
            raise MemoryError
        return _batch(decoded, keep_shapes=keep_shapes)

    stages._batch = batch
    return image.decode(item, fit)

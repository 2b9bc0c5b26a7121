"""The captions of the first images in int8 and in float32."""

from sdprep.models.captioners.blip.layers import Int8Linear
from sdprep.models.captioners.blip.network import BlipNetwork
from sdprep.models.captioners.blip.verify import INT8_SAMPLE, Int8Sample
from sdprep.models.captioners.blip.weights import take_weights
from sdprep.models.captioners.generation import GenerationConfig
from tests.models.captioners.blip.blip_models import cut, engine, images, pictures, small_blip, small_network

DECODING = GenerationConfig(max_new_tokens=12)


def sample(said: list[str], network: BlipNetwork) -> Int8Sample:
    return Int8Sample(engine(DECODING, 4, network), engine(DECODING, 4), said.append)


def int8_network() -> BlipNetwork:
    return BlipNetwork(take_weights(small_blip(), "5.23.0"), absorbed=True, linear=Int8Linear)


def test_the_sample_is_full_after_so_many_images_and_looks_at_no_more() -> None:
    said: list[str] = []
    looking = sample(said, small_network())
    whole = pictures(images(INT8_SAMPLE + 3))
    assert [looking.compare(each) for each in cut(whole, range(5), range(5, INT8_SAMPLE + 3))] == [False, True]
    assert said == [f"int8: {INT8_SAMPLE} of {INT8_SAMPLE} captions are those of float32"]


def test_captions_that_differ_are_counted() -> None:
    said: list[str] = []
    looking = sample(said, small_network(seed=1))
    looking.compare(pictures(images(5)))
    looking.report()
    assert said == ["int8: 0 of 5 captions are those of float32"]


def test_captions_in_int8_do_not_depend_on_the_size_of_the_batch() -> None:
    whole, network = pictures(images(6)), int8_network()
    one, six = (dict(engine(DECODING, size, network).captions([whole])) for size in (1, 6))
    assert {key: found[0].tokens for key, found in one.items()} == {key: found[0].tokens for key, found in six.items()}

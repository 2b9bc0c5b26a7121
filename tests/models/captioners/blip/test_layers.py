"""Linear layers in int8."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from sdprep.errors import UsageError
from sdprep.models.captioners.blip.layers import Int8Linear, LinearLayer
from sdprep.models.captioners.blip.weights import Linear

USES = pytest.mark.parametrize(
    "use",
    [lambda layer, x: layer(x), lambda layer, x: layer.gelu(x), lambda layer, x: layer.add(x, x @ torch.ones(64, 128))],
    ids=["alone", "gelu", "add"],
)


def linear() -> Linear:
    generator = torch.Generator().manual_seed(0)
    # Outputs of very different size: each needs a scale of its own.
    sizes = torch.logspace(-3, 3, 128)
    return Linear(torch.randn(128, 64, generator=generator) * sizes[:, None], sizes)


def expected_norm(rows: int) -> torch.Tensor:
    """Of each output of the layer, for so many rows of numbers with deviation 1."""
    return linear().bias * (64 * rows) ** 0.5


@USES
@pytest.mark.parametrize("rows", [1, 300])
@pytest.mark.parametrize("vnni", [True, False])
def test_int8_is_close_to_float32(
    monkeypatch: pytest.MonkeyPatch, use: Callable[[Any, torch.Tensor], torch.Tensor], rows: int, vnni: bool
) -> None:
    if vnni and not torch.cpu._is_vnni_supported():
        pytest.skip("this processor has no VNNI")
    monkeypatch.setattr("torch.cpu._is_vnni_supported", lambda: vnni)
    x = torch.randn(rows, 64, generator=torch.Generator().manual_seed(rows))
    apart = (use(Int8Linear(linear()), x) - use(LinearLayer(linear()), x)).norm(dim=0)
    assert 0 < float((apart / expected_norm(rows)).mean()) < 0.03


def test_in_int8_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    x = torch.randn(20, 64, generator=torch.Generator().manual_seed(1))
    x[3] *= 1000
    layer = Int8Linear(linear())
    assert torch.equal(layer(x)[7:8], layer(x[7:8]))


def test_in_int8_the_largest_numbers_do_not_overflow() -> None:
    layer = Int8Linear(Linear(torch.ones(8, 1024), torch.zeros(8)))
    assert torch.allclose(layer(torch.ones(2, 1024)), torch.full((2, 8), 1024.0))


def test_in_int8_a_row_of_zeros_gives_the_bias() -> None:
    assert torch.equal(Int8Linear(linear())(torch.zeros(1, 64))[0], linear().bias)


def test_in_int8_what_is_no_number_stays_none() -> None:
    assert bool(Int8Linear(linear())(torch.full((1, 64), float("nan"))).isnan().all())


def test_a_torch_without_onednn_has_no_int8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: False)
    with pytest.raises(UsageError, match=r"--dtype int8: torch .* use float32"):
        Int8Linear(linear())

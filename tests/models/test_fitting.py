"""A backbone for other samples than the data have is refused."""

from __future__ import annotations

import pytest

from contrast.errors import InputError
from contrast.models import Backbone, ConvNet, ResNet1d, require_fitting


@pytest.mark.parametrize(
    ("backbone", "shape", "message"),
    [
        (ConvNet((4,), 3, 8), (3, 25), "ConvNet takes images, and the data are series: give another --model.backbone"),
        (ResNet1d((1,), 4, 3), (3, 8, 8), "ResNet1d takes series, and the data are images"),
        (ResNet1d((1,), 4, 3), (12, 25), "ResNet1d takes 3 channels and the data have 12"),
        (ConvNet((4,), 1, 8), (3, 8, 8), "ConvNet takes 1 channels and the data have 3"),
    ],
)
def test_what_does_not_fit_is_refused(backbone: Backbone, shape: tuple[int, ...], message: str):
    with pytest.raises(InputError) as refused:
        require_fitting(backbone, shape)
    assert str(refused.value).startswith(message)


def test_what_fits_passes():
    require_fitting(ConvNet((4,), 3, 8), (3, 32, 32))
    require_fitting(ResNet1d((1,), 4, 12), (12, 25))

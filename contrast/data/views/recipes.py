"""The papers' recipes. All arguments have the paper's values as defaults."""

from __future__ import annotations

import math

from contrast.arguments import checked
from contrast.data.views.arguments import check_between, check_interval
from contrast.data.views.blur import GaussianBlur
from contrast.data.views.colour import ColourJitter, RandomGrey
from contrast.data.views.crop import RandomResizedCrop
from contrast.data.views.views import Views

__all__ = ["MoCoV1Views", "MoCoV2Views", "SimCLRViews"]


class SimCLRViews(Views):
    """SimCLR's views: crop and flip, colour jitter, grey, blur.

    Chen et al., ICML 2020, arXiv 2002.05709, appendix A. For CIFAR-10 (appendix B.9): `jitter_strength` 0.5, `blur` 0.
    The authors' code resizes with bicubic interpolation and pads with zeros where it blurs; here as torchvision does.

    Args:
        size: side of a view in pixels.
        crop_scale: smallest and largest share of the image's area.
        crop_ratio: smallest and largest width / height of a crop.
        flip: probability of a left-to-right flip.
        jitter_strength: s, from 0 to 2.5: brightness, contrast and saturation vary by 0.8 s, the hue by 0.2 s turns.
        jitter: probability of the jitter.
        grey: probability of grey.
        blur: probability of the blur, with a kernel of a tenth of `size`, made odd.
        blur_sigma: smallest and largest standard deviation of the blur in pixels.

    Raises:
        InputError: an argument outside its range.

    Example:
        >>> import torch
        >>> images = torch.randint(0, 256, (4, 3, 40, 48), dtype=torch.uint8)
        >>> first, second = SimCLRViews(size=32)(images, index=torch.arange(4), epoch=0, seed=0)
        >>> tuple(first.shape), bool((first == second).all())
        ((4, 3, 32, 32), False)
    """

    @checked
    def __init__(
        self,
        size: int = 224,
        crop_scale: tuple[float, float] = (0.08, 1.0),
        crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
        flip: float = 0.5,
        jitter_strength: float = 1.0,
        jitter: float = 0.8,
        grey: float = 0.2,
        blur: float = 0.5,
        blur_sigma: tuple[float, float] = (0.1, 2.0),
    ) -> None:
        check_between("jitter_strength", jitter_strength, 0, 2.5)
        colour, hue = 0.8 * jitter_strength, 0.2 * jitter_strength
        super().__init__(
            RandomResizedCrop(size, crop_scale, crop_ratio, flip),
            (
                ColourJitter(colour, colour, colour, hue, jitter),
                RandomGrey(grey),
                GaussianBlur(size // 10 // 2, blur, blur_sigma),
            ),
        )


class MoCoV1Views(Views):
    """MoCo's views: crop, grey, colour jitter on every image, flip.

    He et al., CVPR 2020, arXiv 1911.05722, section 3.3, in the order of the authors' code, which follows Wu et al.,
    CVPR 2018, arXiv 1805.01978: grey comes before the jitter. The flip commutes with all of it, so it is in the crop.

    Args:
        size: side of a view in pixels.
        crop_scale: smallest and largest share of the image's area.
        crop_ratio: smallest and largest width / height of a crop.
        grey: probability of grey.
        brightness: its factor is uniform in 1 ± this.
        contrast: likewise.
        saturation: likewise.
        hue: largest shift of the hue, in turns.
        flip: probability of a left-to-right flip.

    Raises:
        InputError: an argument outside its range.
    """

    @checked
    def __init__(
        self,
        size: int = 224,
        crop_scale: tuple[float, float] = (0.2, 1.0),
        crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
        grey: float = 0.2,
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.4,
        hue: float = 0.4,
        flip: float = 0.5,
    ) -> None:
        super().__init__(
            RandomResizedCrop(size, crop_scale, crop_ratio, flip),
            (RandomGrey(grey), ColourJitter(brightness, contrast, saturation, hue)),
        )


class MoCoV2Views(Views):
    """MoCo v2's views: crop, colour jitter, grey, blur, flip.

    Chen et al., 2020, arXiv 2003.04297, section 3, in the order of the authors' code. The flip commutes with all of it,
    so it is in the crop. The authors' blur is Pillow's approximation of a Gaussian; here it is a Gaussian, cut off at
    four standard deviations of the widest, whatever the size.

    Args:
        size: side of a view in pixels.
        crop_scale: smallest and largest share of the image's area.
        crop_ratio: smallest and largest width / height of a crop.
        brightness: its factor is uniform in 1 ± this.
        contrast: likewise.
        saturation: likewise.
        hue: largest shift of the hue, in turns.
        jitter: probability of the jitter.
        grey: probability of grey.
        blur: probability of the blur.
        blur_sigma: smallest and largest standard deviation of the blur in pixels.
        flip: probability of a left-to-right flip.

    Raises:
        InputError: an argument outside its range.
    """

    @checked
    def __init__(
        self,
        size: int = 224,
        crop_scale: tuple[float, float] = (0.2, 1.0),
        crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
        brightness: float = 0.4,
        contrast: float = 0.4,
        saturation: float = 0.4,
        hue: float = 0.1,
        jitter: float = 0.8,
        grey: float = 0.2,
        blur: float = 0.5,
        blur_sigma: tuple[float, float] = (0.1, 2.0),
        flip: float = 0.5,
    ) -> None:
        check_interval("blur_sigma", blur_sigma)
        # A border can be reflected only as far as the image reaches.
        radius = min(math.ceil(4 * blur_sigma[1]), size - 1)
        super().__init__(
            RandomResizedCrop(size, crop_scale, crop_ratio, flip),
            (
                ColourJitter(brightness, contrast, saturation, hue, jitter),
                RandomGrey(grey),
                GaussianBlur(radius, blur, blur_sigma),
            ),
        )

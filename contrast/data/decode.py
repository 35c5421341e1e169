"""Decode images from files, arrays and PIL objects to uint8 tensors."""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor

from contrast.errors import InputError

__all__ = [
    "DECODING_ERRORS",
    "EXTENSIONS",
    "CorruptImageError",
    "pixels_of",
    "read_image",
    "scale_to_uint8",
    "to_uint8",
]

Pixels = npt.NDArray[np.uint8]

BANDS = (
    "images are grey (1) or RGB (3), and only image files have transparency; keep one or three bands of the array, say "
    "array[..., :3]"
)
"""Advice for images with another number of channels, for error messages."""
_BANDS = (2, *range(4, 17))


def to_uint8(image: object, channels: int) -> UInt8[Tensor, "{channels} h w"]:
    """Convert an image of any usual form to a uint8 tensor (channels, height, width).

    Pillow images are rotated upright by their EXIF orientation and read in their own mode. Palettes are resolved.
    16-bit grey (I;16, I) is divided by 257. CMYK and YCbCr become RGB by Pillow's formulas. Of several frames the first
    is taken.

    Arrays are (h, w) or (h, w, c), tensors (h, w) or (c, h, w), with c of 1 (grey) or 3 (RGB). Their values are those
    of `scale_to_uint8`.

    Only Pillow images have transparency; they are blended over white. A fourth band of an array may be anything, for
    example near infrared, and raises an error.

    Colour becomes grey by the luma of ITU-R BT.601, L = 0.299 R + 0.587 G + 0.114 B in Pillow's integer arithmetic.
    Grey becomes colour by repeating its channel.

    Args:
        image: a PIL image, an array or a tensor.
        channels: 1 for grey, 3 for RGB.

    Raises:
        InputError: for values outside their range, NaN, invalid shapes and modes, and other types.

    Example:
        >>> to_uint8(torch.tensor([[0.0, 1.0]]), channels=3).tolist()
        [[[0, 255]], [[0, 255]], [[0, 255]]]
    """
    if channels not in (1, 3):
        raise InputError(f"channels {channels} is neither 1 (grey) nor 3 (RGB)")
    pixels = pixels_of(image)
    if channels == 1 and pixels.shape[2] == 3:
        pixels = _luma(pixels)
    planes = pixels.transpose(2, 0, 1)
    # A copy, because a view of a Pillow image or a memory map may be read-only. It keeps its memory layout (order="K"):
    # crops in a worker are fast in the layout of files, and changing the layout costs more than the copy.
    return torch.from_numpy(planes.copy(order="K") if len(planes) == channels else planes.repeat(channels, axis=0))


def pixels_of(image: object) -> Pixels:
    """Convert an image of any form that `to_uint8` accepts to uint8 (h, w, c), with its own 1 or 3 channels.

    Transparent Pillow images are blended over white.
    """
    if isinstance(image, Image.Image):
        pixels = _over_white(_from_pillow(image))
    elif isinstance(image, np.ndarray):
        pixels = _from_array(image)
    elif isinstance(image, Tensor):
        pixels = _from_tensor(image)
    else:
        raise InputError(f"an image of type {type(image).__name__}: give a PIL image, a numpy array or a tensor")
    return pixels


def scale_to_uint8(values: npt.NDArray[Any]) -> Pixels:
    """Scale pixel values of any usual dtype to uint8, each dtype by its full range.

    uint8 is unchanged. bool becomes 0 and 255. uint16 is divided by 257 and rounded. Other integers must lie in 0..255.
    Floats must lie in [0, 1]; they are multiplied by 255 and rounded.

    Args:
        values: an array of any shape.

    Raises:
        InputError: for a value outside its range, naming the first such value, and for a dtype that is not numeric.
    """
    kind = values.dtype.kind
    if values.dtype == np.uint8:
        return values
    if kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    if kind == "u" and values.dtype.itemsize == 2:
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if kind in "iu":
        _refuse_outside(values, 0, 255, "integer pixels lie in 0..255 (uint16 in 0..65535)")
        return values.astype(np.uint8)
    if kind == "f":
        # The tolerance is for rounding errors: resizing may give 1.0000001.
        _refuse_outside(values, -1e-5, 1 + 1e-5, "float pixels lie in [0, 1]; divide 8-bit values by 255")
        return np.rint(values.astype(np.float32) * 255).astype(np.uint8)
    raise InputError(f"pixels of type {values.dtype}: give uint8, uint16, or floats in [0, 1]")


def _refuse_outside(values: npt.NDArray[Any], lowest: float, highest: float, rule: str) -> None:
    inside = (values >= lowest) & (values <= highest)  # False for NaN, which is therefore refused too

    if not inside.all():
        raise InputError(f"a pixel of {values.dtype} is {values[~inside][0]}: {_advice(values[~inside], rule)}")


def _advice(outside: npt.NDArray[Any], rule: str) -> str:
    """Advice for an error message: the most likely origin of values outside their range."""
    if outside.dtype.kind != "f":
        return rule
    if not np.isfinite(outside).any():
        return "float pixels lie in [0, 1]; replace missing and infinite values by numbers"
    finite = outside[np.isfinite(outside)]
    if finite.min() < 0 or finite.max() < 20:
        return "float pixels lie in [0, 1]; leave normalisation to data.mean and data.std"
    return rule


def _from_pillow(image: Image.Image) -> Pixels:
    image.load()  # must come first: some formats (ICNS) know their mode only after loading
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    mode = image.mode
    if mode in ("P", "PA", "RGBa") or (mode == "RGB" and "transparency" in image.info):
        image = image.convert("RGBA")
    elif mode == "La" or (mode in ("1", "L") and "transparency" in image.info):
        image = image.convert("LA")
    elif mode in ("CMYK", "YCbCr", "HSV", "RGBX"):
        image = image.convert("RGB")
    elif mode.startswith("I"):
        return _from_wide_grey(np.asarray(image))
    elif mode not in ("1", "L", "LA", "RGB", "RGBA"):
        raise InputError(
            f"an image of PIL mode {mode}, a mode without a fixed range or without RGB: save it as 8-bit grey or RGB"
        )
    pixels = np.asarray(image)
    return scale_to_uint8(pixels[:, :, None] if pixels.ndim == 2 else pixels)


def _from_wide_grey(values: npt.NDArray[Any]) -> Pixels:
    """Pixels of Pillow's I;16 modes, and of I, the 32-bit mode that Pillow uses for other 16-bit files."""
    _refuse_outside(values, 0, 65535, "wide grey pixels lie in 0..65535; save the image with 16 bits")
    return scale_to_uint8(values.astype(np.uint16))[:, :, None]


def _from_array(array: npt.NDArray[Any]) -> Pixels:
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim == 3 and array.shape[2] in _BANDS and array.shape[0] not in (1, 3):
        raise InputError(f"an array of shape {array.shape} has {array.shape[2]} channels: {BANDS}")
    if array.ndim != 3 or array.shape[2] not in (1, 3) or 0 in array.shape:
        hint = "; a channels-first array must be a tensor" if array.ndim == 3 and array.shape[0] in (1, 3) else ""
        raise InputError(
            f"an array of shape {array.shape} is not an image: give (height, width, 1 or 3 channels){hint}"
        )
    return scale_to_uint8(array)


def _from_tensor(tensor: Tensor) -> Pixels:
    if tensor.is_floating_point():
        tensor = tensor.to(torch.float32)  # numpy has no bfloat16
    if tensor.ndim == 2:
        tensor = tensor[None]
    if tensor.ndim == 3 and tensor.shape[0] in _BANDS and tensor.shape[2] not in (1, 3):
        raise InputError(f"a tensor of shape {tuple(tensor.shape)} has {tensor.shape[0]} channels: {BANDS}")
    if tensor.ndim != 3 or tensor.shape[0] not in (1, 3) or tensor.numel() == 0:
        last = tensor.ndim == 3 and tensor.shape[2] in (1, 3)
        hint = "; a channels-last tensor must be an array" if last else ""
        shape = tuple(tensor.shape)
        raise InputError(f"a tensor of shape {shape} is not an image: give (1 or 3 channels, height, width){hint}")
    return scale_to_uint8(tensor.detach().cpu().numpy().transpose(1, 2, 0))


def _over_white(pixels: Pixels) -> Pixels:
    """Blend an alpha channel over white: ``(a c + (255 - a) 255) / 255``, rounded.

    Dropping the alpha channel would not do: the colour of transparent pixels is often noise.
    """
    if pixels.shape[2] in (1, 3):
        return pixels
    alpha = pixels[:, :, -1:].astype(np.uint32)
    colour = pixels[:, :, :-1]
    return ((alpha * colour + (255 - alpha) * 255 + 127) // 255).astype(np.uint8)


def _luma(pixels: Pixels) -> Pixels:
    weighted = pixels.astype(np.uint32) @ np.array([19595, 38470, 7471], dtype=np.uint32)
    return ((weighted + 0x8000) >> 16).astype(np.uint8)[:, :, None]


# Without a list of formats Pillow tries all it knows on any file, including PostScript, which starts another program.
_FORMATS = {
    "JPEG": ".jpg .jpeg .jpe .jfif",
    "PNG": ".png .apng",
    "TIFF": ".tif .tiff",
    "WEBP": ".webp",
    "GIF": ".gif",
    "BMP": ".bmp",
    "DIB": ".dib",
    "JPEG2000": ".jp2 .j2k .jpx",
    "PPM": ".ppm .pgm .pbm .pnm",
    "TGA": ".tga",
    "PCX": ".pcx",
    "SGI": ".sgi",
    "SUN": ".ras",
    "ICO": ".ico",
    "QOI": ".qoi",
    "AVIF": ".avif",
}

EXTENSIONS = frozenset(" ".join(_FORMATS.values()).split())

# Exceptions that Pillow was seen to raise for damaged bytes, in all formats.
DECODING_ERRORS = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)

_warnings_lock = threading.Lock()


class CorruptImageError(ValueError):
    """Error for a file that does not decode; the message is the reason, without the path."""


def read_image(path: str) -> Image.Image:
    """Read and fully decode the first image of a file.

    Args:
        path: the file.

    Raises:
        CorruptImageError: for a file that is missing, empty, truncated, damaged, of another format, or a decompression
            bomb.
        InputError: if the file cannot be read at all, or if Pillow is set to fill in missing data.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise InputError(
            "PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on, so truncated files load half grey: set it to False"
        )
    file = Path(path)
    try:
        if file.exists() and not file.is_file() and not file.is_dir():
            raise CorruptImageError("it is a pipe or a device, not a file")
        data = file.read_bytes()
    except FileNotFoundError:
        raise CorruptImageError("there is no such file, or it is a broken link") from None
    except OSError as error:
        raise InputError(f"{path!r} cannot be read: {error.strerror}") from error
    if not data:
        raise CorruptImageError("the file is empty (0 bytes)")
    try:
        image = _open(data)
        image.load()
    except DECODING_ERRORS as error:
        raise CorruptImageError(_reason(error)) from error
    return image


def _open(data: bytes) -> Image.Image:
    # Warning filters are shared by all threads, hence the lock. Opening reads only the header, so waiting costs little.
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # odd metadata; the pixels may still be valid
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return Image.open(io.BytesIO(data), formats=list(_FORMATS))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image, or its format is not supported"
    return " ".join(str(error).split()) or type(error).__name__

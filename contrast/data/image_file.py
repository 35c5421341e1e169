"""Read one image file whole, or say in one line why it cannot be."""

from __future__ import annotations

import io
import struct
import threading
import warnings
import zlib
from pathlib import Path

from PIL import Image, ImageFile, UnidentifiedImageError

from contrast.errors import InputError

__all__ = ["DECODING_ERRORS", "EXTENSIONS", "CorruptImageError", "read_image"]

# Pillow would try every format it knows on any file, among them PostScript, which starts another program.
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

# What Pillow is seen to raise for damaged bytes, whatever the format.
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
    """A file that does not decode; the message is the reason, without the path."""


def read_image(path: str) -> Image.Image:
    """The file's first image, all of it decoded.

    Raises:
        CorruptImageError: for a file that is empty, cut, damaged, of another format or a decompression bomb.
        InputError: where the file cannot be read at all, or Pillow is told to make up what is missing.
    """
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise InputError("PIL.ImageFile.LOAD_TRUNCATED_IMAGES is on, which turns cut files half grey: leave it False")
    file = Path(path)
    try:
        if file.exists() and not file.is_file() and not file.is_dir():
            raise CorruptImageError("it is a pipe or a device, no file")
        data = file.read_bytes()
    except FileNotFoundError:
        raise CorruptImageError("there is no such file, or a link that leads nowhere") from None
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
    # The filters of warnings are one for all threads; opening reads the header only, so that waiting costs little.
    with _warnings_lock, warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # odd metadata, which says nothing about the pixels
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        return Image.open(io.BytesIO(data), formats=list(_FORMATS))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "it is no image, or one of a format that is not read"
    return " ".join(str(error).split()) or type(error).__name__

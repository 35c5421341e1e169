"""Folders of images of which one is odd, and a run that reads them all."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from tests.harness.fuzz.case import Case
from tests.harness.fuzz.damage import damage, ways
from tests.harness.fuzz.sources import pretraining

__all__ = ["images"]

_COUNT, _ODD = 31, "odd"  # with the odd one two whole batches, so that every image is read


def _saved(image: Image.Image, kind: str, **settings: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def _noise(mode: str = "RGB", width: int = 24, height: int = 20) -> Image.Image:
    pixels = np.random.default_rng(3).integers(0, 256, (height, width, 3)).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def _png(width: int, height: int, depth: int = 8, kind: int = 2, data: bytes = b"") -> bytes:
    """A PNG with a head of our own choice and whatever data."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def _frames() -> bytes:
    frames = [_noise("P"), _noise("P", 24, 20)]
    return _saved(frames[0], "GIF", save_all=True, append_images=frames[1:])


_GOOD: dict[str, Callable[[], tuple[str, bytes]]] = {
    "PNG": lambda: (".png", _saved(_noise(), "PNG")),
    "JPEG": lambda: (".jpg", _saved(_noise(), "JPEG")),
    "TIFF": lambda: (".tif", _saved(_noise(), "TIFF")),
    "WebP": lambda: (".webp", _saved(_noise(), "WEBP")),
    "GIF": lambda: (".gif", _saved(_noise("P"), "GIF")),
    "BMP": lambda: (".bmp", _saved(_noise(), "BMP")),
    "PPM": lambda: (".ppm", _saved(_noise(), "PPM")),
    "JPEG 2000": lambda: (".jp2", _saved(_noise(), "JPEG2000")),
    "TGA": lambda: (".tga", _saved(_noise(), "TGA")),
    "ICO": lambda: (".ico", _saved(_noise(), "ICO")),
    "QOI": lambda: (".qoi", _saved(_noise(), "QOI")),
    "AVIF": lambda: (".avif", _saved(_noise(), "AVIF")),
}

_ODDITIES: dict[str, Callable[[], tuple[str, bytes]]] = {
    "0x0": lambda: (".png", _png(0, 0)),
    "0x5": lambda: (".png", _png(0, 5)),
    "60,000x1": lambda: (".png", _saved(Image.new("L", (60_000, 1), 9), "PNG")),
    "1x60,000": lambda: (".png", _saved(Image.new("L", (1, 60_000), 9), "PNG")),
    "1x1": lambda: (".png", _saved(Image.new("L", (1, 1), 9), "PNG")),
    "a bomb of a head": lambda: (".png", _png(60_000, 60_000)),
    "a bomb of 2³¹": lambda: (".png", _png(2**31 - 1, 2**31 - 1)),
    "a bomb of zeroes": lambda: (".png", _png(14_000, 14_000, 8, 0, bytes(14_001 * 14_000))),
    "a bomb below the limit": lambda: (".png", _png(9_000, 9_000, 8, 0, bytes(9_001 * 9_000))),
    "a PPM of 10⁹ pixels": lambda: (".ppm", b"P6 100000 10000 255\n"),
    "a BMP of huge size": lambda: (".bmp", b"BM" + struct.pack("<IIIIiiHHI", 60, 0, 54, 40, 2**30, 2**30, 1, 24, 0)),
    "a wrong extension": lambda: (".jpg", _saved(_noise(), "PNG")),
    "text": lambda: (".png", b"no image at all"),
    "PostScript": lambda: (".png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n"),
    "SVG": lambda: (".png", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "palette": lambda: (".png", _saved(_noise("P"), "PNG")),
    "CMYK": lambda: (".jpg", _saved(_noise("CMYK"), "JPEG")),
    "16 bit": lambda: (".png", _saved(Image.new("I;16", (9, 9), 40_000), "PNG")),
    "32 bit": lambda: (".tif", _saved(Image.new("I", (9, 9), 2**20), "TIFF")),
    "floats": lambda: (".tif", _saved(Image.new("F", (9, 9), 0.5), "TIFF")),
    "NaN": lambda: (".tif", _saved(Image.new("F", (9, 9), float("nan")), "TIFF")),
    "Lab": lambda: (".tif", _saved(Image.new("LAB", (9, 9)), "TIFF")),
    "one bit": lambda: (".png", _saved(_noise("1"), "PNG")),
    "with alpha": lambda: (".png", _saved(_noise("RGBA"), "PNG")),
    "frames": lambda: (".gif", _frames()),
}

_PLACES: dict[str, Callable[[Path], object]] = {
    "an empty folder": lambda root: [file.unlink() for file in root.rglob("*.png")],
    "no folder": lambda root: root.rename(root.with_name("elsewhere")),
    "a file": lambda root: (root.rename(root.with_name("elsewhere")), root.write_bytes(b"x")),
    "nested deeply": lambda root: (root / "/".join("abcdefghijklmnop")).mkdir(parents=True),
    "a link to above": lambda root: (root / "zero/up").symlink_to(".."),
    "a link to /": lambda root: (root / "zero/all").symlink_to("nowhere/at/all"),
    "a class of one link to nowhere": lambda root: (root / "zero/a.png").symlink_to("nowhere.png"),
    "an image that is a pipe": lambda root: os.mkfifo(root / "zero/pipe.png"),
    "an image that is a device": lambda root: (root / "zero/device.png").symlink_to("/dev/zero"),
    "an image that is a folder": lambda root: (root / "zero/folder.png").mkdir(),
    "an empty class": lambda root: (root / "three").mkdir(),
    "a name that is no text": lambda root: (root / os.fsdecode(b"zero/\xff.png")).write_bytes(b"x"),
    "a name with a line break": lambda root: (root / "zero/a\nb.png").write_bytes(b"x"),
    "splits": lambda root: [(root / old).rename(root / new) for old, new in (("zero", "train"), ("one", "test"))],
}


def _folder(root: Path) -> None:
    for number in range(_COUNT):
        path = root / ("zero" if number % 2 else "one")
        path.mkdir(parents=True, exist_ok=True)
        (path / f"{number}.png").write_bytes(_saved(_noise("RGB", 10, 9 + number % 3), "PNG"))


@st.composite
def images(draw: Callable) -> Case:
    """An image folder with an odd image, a damaged one, or an odd folder."""
    settings = {"on_corrupt": draw(st.sampled_from(["error", "error", "skip"])), "class_folders": True}
    source = {"class_path": "contrast.data.ImageFolder", "init_args": {"root": "images", **settings}}
    workers = draw(st.sampled_from([0, 0, 0, 1]))
    way = draw(st.sampled_from(["damage", "damage", "odd", "odd", "place"]))
    if way == "place":
        name = draw(st.sampled_from(sorted(_PLACES)))
        prepare = partial(_placed, name)
    elif way == "odd":
        name = draw(st.sampled_from(sorted(_ODDITIES)))
        prepare = partial(_odd, _ODDITIES[name], None)
    else:
        kind, done = draw(st.sampled_from(sorted(_GOOD))), draw(ways())
        name, prepare = f"{kind} {done[0]} ({done[1]})", partial(_odd, _GOOD[kind], done)
    what = f"{name}, {settings['on_corrupt']}, {workers} workers"
    return pretraining("image", what, source, prepare, {"workers": workers, "channels": 3, "views_in": "workers"})


def _placed(name: str, folder: Path) -> None:
    _folder(folder / "images")
    _PLACES[name](folder / "images")


def _odd(make: Callable[[], tuple[str, bytes]], done: tuple[str, int] | None, folder: Path) -> None:
    _folder(folder / "images")
    suffix, content = make()
    file = folder / "images/zero" / f"{_ODD}{suffix}"
    file.write_bytes(content)
    if done is not None:
        damage(file, *done)

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageFile

from contrast.data.decode import EXTENSIONS, CorruptImageError, read_image, to_uint8
from contrast.errors import InputError

ROWS, COLUMNS = np.indices((24, 20))
RGB = np.stack([10 * ROWS, 12 * COLUMNS, 255 - 6 * COLUMNS], axis=-1).astype(np.uint8)

# (name, mode, options, how far a lossy format may be off)
FILES: list[tuple[str, str, dict[str, Any], int]] = [
    ("a.png", "L", {}, 0),
    ("a.png", "LA", {}, 0),
    ("a.png", "RGB", {}, 0),
    ("a.png", "RGBA", {}, 0),
    ("a.png", "P", {}, 0),
    ("a.png", "1", {}, 0),
    ("a.png", "I;16", {}, 0),
    ("a.jpg", "L", {"quality": 95}, 25),
    ("a.jpeg", "RGB", {"quality": 95}, 25),
    ("a.JPEG", "RGB", {"quality": 95, "progressive": True}, 25),
    ("a.jpg", "CMYK", {"quality": 95}, 25),
    ("a.tif", "RGB", {}, 0),
    ("a.tiff", "RGB", {"compression": "tiff_lzw"}, 0),
    ("a.tiff", "RGB", {"compression": "tiff_adobe_deflate"}, 0),
    ("a.tiff", "I;16", {}, 0),
    ("a.tiff", "CMYK", {}, 0),
    ("a.webp", "RGB", {"lossless": True}, 0),
    ("a.webp", "RGB", {"quality": 95}, 25),
    ("a.bmp", "RGB", {}, 0),
    ("a.gif", "L", {}, 0),
    ("a.gif", "P", {}, 0),
    ("a.ppm", "RGB", {}, 0),
    ("a.pgm", "L", {}, 0),
    ("a.tga", "RGB", {}, 0),
    ("a.jp2", "RGB", {}, 0),
    ("a.avif", "RGB", {"quality": 95}, 25),
]
IDS = [f"{name}-{mode}{'-' + str(next(iter(options.values()))) if options else ''}" for name, mode, options, _ in FILES]


def image_of(mode: str) -> Image.Image:
    if mode == "I;16":
        return Image.fromarray(RGB[:, :, 0].astype(np.uint16) * 257)
    if mode == "RGBA":
        return Image.fromarray(np.dstack([RGB, np.full(RGB.shape[:2], 200, np.uint8)]))
    return Image.fromarray(RGB).convert(mode)


@pytest.mark.parametrize(("name", "mode", "options", "off"), FILES, ids=IDS)
def test_every_format_and_mode_reads_back(tmp_path: Path, name: str, mode: str, options: dict[str, Any], off: int):
    image = image_of(mode)
    image.save(tmp_path / name, **options)
    assert Path(name).suffix.lower() in EXTENSIONS
    for channels in (1, 3):
        found = to_uint8(read_image(str(tmp_path / name)), channels)
        assert found.shape == (channels, 24, 20)
        difference = (found.int() - to_uint8(image, channels).int()).abs()
        assert difference.max() <= off
        assert difference.float().mean() <= off / 8


# Every one of these is whole only if its last pixels are; what follows the pixels (a PNG's end mark) may be missing.
CUT = [file for file in FILES if not file[0].endswith((".jp2", ".avif"))]


@pytest.mark.parametrize(
    ("name", "mode", "options", "off"), CUT, ids=[i for i, f in zip(IDS, FILES, strict=True) if f in CUT]
)
@pytest.mark.filterwarnings("ignore::UserWarning")  # of metadata, as a TIFF is loaded
def test_a_cut_file_is_an_error_or_whole_never_half(
    tmp_path: Path, name: str, mode: str, options: dict[str, Any], off: int
):
    image_of(mode).save(tmp_path / name, **options)
    whole = (tmp_path / name).read_bytes()
    expected = to_uint8(read_image(str(tmp_path / name)), 3)
    cut = tmp_path / f"cut{Path(name).suffix}"
    reasons = []
    lengths = [*range(0, len(whole) - 30, max(1, len(whole) // 20)), *range(len(whole) - 30, len(whole))]
    for length in lengths:
        cut.write_bytes(whole[:length])
        reason, image = read(cut)
        if image is None:
            reasons.append(reason)
        else:
            assert bool((to_uint8(image, 3) == expected).all())
    assert all(reason and "\n" not in reason for reason in reasons)
    assert len(reasons) >= len(lengths) - (0 if name.lower().endswith((".jpg", ".jpeg")) else 27)


def read(path: Path) -> tuple[str, Image.Image | None]:
    try:
        return "", read_image(str(path))
    except CorruptImageError as error:
        return str(error), None


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_no_damaged_byte_escapes_as_another_exception(tmp_path: Path):
    random = np.random.default_rng(0)
    for name, mode, options, _ in FILES:
        image_of(mode).save(tmp_path / name, **options)
        whole = np.frombuffer((tmp_path / name).read_bytes(), dtype=np.uint8)
        for _ in range(12):
            damaged = whole.copy()
            damaged[random.integers(0, len(whole), 6)] = random.integers(0, 256, 6, dtype=np.uint8)
            (tmp_path / "damaged").write_bytes(damaged.tobytes())
            assert "\n" not in read(tmp_path / "damaged")[0]


def test_an_empty_file_a_text_and_a_dangling_link_are_told_apart(tmp_path: Path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("<html>404</html>")
    os.symlink(tmp_path / "nowhere.png", tmp_path / "link.png")
    for name, reason in [("empty", r"empty \(0 bytes\)"), ("text", "not an image"), ("link", "broken link")]:
        with pytest.raises(CorruptImageError, match=reason):
            read_image(str(tmp_path / f"{name}.png"))


def test_a_program_for_a_printer_is_not_run(tmp_path: Path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 5 5\nshowpage\n")
    with pytest.raises(CorruptImageError, match="not an image"):
        read_image(str(tmp_path / "a.png"))


def test_a_reason_of_several_lines_becomes_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: object, **__: object) -> Image.Image:
        raise OSError("broken\n  data stream")

    Image.fromarray(RGB).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "open", refuse)
    assert read(tmp_path / "a.png") == ("broken data stream", None)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("factor", [1.5, 2.5])  # Pillow warns of the first and raises for the second
def test_a_decompression_bomb_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factor: float):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(24 * 20 / factor))
    with pytest.raises(CorruptImageError, match=r"480 pixels.*decompression bomb") as refused:
        read_image(str(tmp_path / "a.png"))
    assert "\n" not in str(refused.value)


def test_a_file_that_may_not_be_read_is_not_called_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(InputError, match=r"a.png' cannot be read: Permission denied"):
        read_image(str(tmp_path / "a.png"))


def test_half_grey_images_are_refused_at_their_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(InputError, match="LOAD_TRUNCATED_IMAGES"):
        read_image(str(tmp_path / "a.png"))

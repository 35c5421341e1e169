"""A packed cache: the same pixels as the files, one writer, and damage, change and a full disk in one line each."""

from __future__ import annotations

import copy
import logging
import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import functional as transforms

from contrast.data import ImageData, ImageFolder, IndexedImages, SimCLRViews
from contrast.data import cache as packed
from contrast.errors import InputError
from tests.data.formats import draw


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two classes; colour, grey, transparency, a palette, an upright turn, and no two of one size."""
    root = tmp_path / "photos"
    for number, (name, mode) in enumerate(
        [("cat/1.png", "RGB"), ("cat/2.jpg", "RGB"), ("cat/10.png", "L"), ("dog/3.png", "RGBA"), ("dog/4.gif", "P")]
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(0, number, 24 + number, 30)).convert(mode).save(root / name)
    turned = Image.fromarray(draw(0, 9, 20, 40))
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(root / "dog" / "5.jpg", exif=exif)
    return root


def _packed(root: Path, **more: object) -> ImageFolder:
    return ImageFolder(root, cache=root.parent / "photos.pack", **more)


def _refusal(root: Path, **more: object) -> str:
    with pytest.raises(InputError) as refused:
        _packed(root, **more)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def _damage(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize("channels", [1, 3])
def test_images_labels_and_order_are_those_of_the_folder(photos, channels):
    plain, packed = ImageFolder(photos), _packed(photos)
    assert (packed.paths, packed.labels, packed.classes) == (plain.paths, plain.labels, plain.classes)
    from_files, from_cache = IndexedImages(plain, channels), IndexedImages(packed, channels)
    for index in range(len(plain)):
        assert torch.equal(from_files[index][0], from_cache[index][0])
        assert from_files[index][1:] == from_cache[index][1:]


def test_a_second_start_decodes_nothing(photos, monkeypatch):
    first = [image for image, _ in _packed(photos)]
    monkeypatch.setattr("contrast.data.cache.read_image", lambda path: pytest.fail(f"{path} was read"))
    for image, again in zip(first, (image for image, _ in _packed(photos)), strict=True):
        assert torch.equal(image, again)


def test_what_is_done_to_an_item_does_not_reach_the_next_reader(photos):
    packed = _packed(photos)
    before = packed[0][0].clone()
    packed[0][0].zero_()
    assert torch.equal(packed[0][0], before)


def test_larger_images_are_reduced_and_smaller_ones_left(photos):
    packed, plain = IndexedImages(_packed(photos, cache_size=25), 3), IndexedImages(ImageFolder(photos), 3)
    for index in range(len(plain)):
        image = plain[index][0]
        small = transforms.resize(image, [25], antialias=True) if min(image.shape[1:]) > 25 else image
        assert packed[index][0].shape == small.shape
        assert (packed[index][0].int() - small.int()).abs().max() <= 1  # grey is reduced before it is repeated


def test_another_size_is_another_cache(photos, caplog):
    _packed(photos)
    assert _packed(photos, cache_size=8)[0][0].shape[1] == 8
    assert "cache_size changed" in caplog.text


@pytest.mark.parametrize("change", ["added", "removed", "changed"])
def test_a_changed_folder_is_packed_again_and_reported(photos, change, caplog):
    _packed(photos)
    assert not caplog.records
    path = photos / "cat" / "1.png"
    if change == "removed":
        path.unlink()
    else:
        path = path if change == "changed" else photos / "cat" / "11.png"
        state = os.stat(photos / "cat" / "1.png")
        Image.new("RGB", (7, 5), "red").save(path)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    packed, plain = IndexedImages(_packed(photos), 3), IndexedImages(ImageFolder(photos), 3)
    assert len(packed) == len(plain)
    assert all(torch.equal(packed[index][0], plain[index][0]) for index in range(len(plain)))
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == [
        f"the packed cache {str(photos.parent / 'photos.pack')!r} is out of date (files were added, removed or "
        "changed) and is packed again"
    ]


def test_damaged_images_are_refused_or_left_out_as_without_a_cache(photos):
    (photos / "cat" / "3.png").write_bytes(b"")
    assert "3.png' does not decode (the file is empty (0 bytes)): remove the file" in _refusal(photos)
    assert not (photos.parent / "photos.pack").exists()
    packed, plain = _packed(photos, on_corrupt="skip"), ImageFolder(photos, on_corrupt="skip")
    assert (packed.paths, packed.labels, packed.skipped) == (plain.paths, plain.labels, plain.skipped)
    pictures, kept = IndexedImages(packed, 3), IndexedImages(plain, 3)
    assert all(torch.equal(pictures[index][0], kept[index][0]) for index in range(len(plain)))
    assert "3.png' does not decode (the file is empty (0 bytes))" in _refusal(photos)  # and the cache knows it too


def test_damaged_pixels_are_found_when_they_are_read(photos):
    _packed(photos)
    file = photos.parent / "photos.pack"
    _damage(file, 100)
    packed = _packed(photos)
    with pytest.raises(InputError, match=r"damaged \(the checksum of image 0 differs\): remove it, and the next run"):
        packed[0]
    packed[1]
    file.unlink()
    _packed(photos)[0]


@pytest.mark.parametrize("place", [20, 30, 40, -1, -180])
def test_a_damaged_prefix_or_index_is_found_at_the_start(photos, place):
    _packed(photos)
    _damage(photos.parent / "photos.pack", place)
    assert "photos.pack' is damaged" in _refusal(photos)


@pytest.mark.parametrize("left", [17, 500, 5000, -1])
def test_a_cut_file_is_found_at_the_start(photos, left):
    _packed(photos)
    file = photos.parent / "photos.pack"
    file.write_bytes(file.read_bytes()[:left])
    assert "photos.pack' is damaged" in _refusal(photos)


@pytest.mark.parametrize("content", [b"", b"my diary", b"\x89PNG" * 100])
def test_no_other_file_is_ever_overwritten(photos, content):
    file = photos.parent / "photos.pack"
    file.write_bytes(content)
    assert "is not a packed cache and will not be overwritten: give another `cache`" in _refusal(photos)
    assert file.read_bytes() == content


def test_a_folder_and_another_version_are_refused(photos):
    file = photos.parent / "photos.pack"
    _packed(photos)
    _damage(file, 17)
    assert "has version 257, not 1: remove it" in _refusal(photos)
    file.unlink()
    file.mkdir()
    assert "photos.pack' cannot be read: Is a directory" in _refusal(photos)


def test_a_full_disk_is_one_line_and_leaves_nothing(photos, monkeypatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "cannot be written (No space left on device, after 0.0 GB): make room" in _refusal(photos)
    assert sorted(path.name for path in photos.parent.iterdir()) == [".photos.pack.lock", "photos"]


def test_what_a_killed_process_left_is_taken_away(photos):
    part = photos.parent / ".photos.pack.123.part"
    part.write_bytes(b"half")
    _packed(photos)
    assert not part.exists()


@pytest.mark.parametrize("size", [0, -3])
def test_a_size_that_is_none_is_refused(photos, size):
    assert f"cache_size {size} is the size" in _refusal(photos, cache_size=size)
    with pytest.raises(InputError, match="cache_size 8 is the size of cached images"):
        ImageFolder(photos, cache_size=8)


START = """
import logging, os, sys
logging.basicConfig(format="%(message)s")
import contrast.data.cache as packing
from contrast.data import ImageFolder
decode = packing._pixels
def counted(path, size):
    os.write(1, b"decoded\\n")  # in one piece: several threads decode
    return decode(path, size)
packing._pixels = counted
folder = ImageFolder(sys.argv[1], cache=sys.argv[2])
print(sum(int(image.sum()) for image, _ in folder))
"""


def test_of_several_processes_that_start_at_once_one_packs(photos):
    call = [sys.executable, "-c", START, str(photos), str(photos.parent / "photos.pack")]
    started = [subprocess.Popen(call, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    lines = [line for process in started for line in process.communicate()[0].splitlines()]
    assert all(process.returncode == 0 for process in started)
    assert lines.count("decoded") == 6
    assert len(set(lines) - {"decoded"}) == 1


def test_a_copy_and_a_pickle_read_the_same_file(photos):
    packed = _packed(photos)
    for other in (pickle.loads(pickle.dumps(packed)), copy.deepcopy(packed)):
        assert torch.equal(other[2][0], packed[2][0])
    assert len(pickle.dumps(packed)) < (photos.parent / "photos.pack").stat().st_size


def test_a_pickle_of_a_cache_that_was_replaced_is_refused(photos):
    kept = pickle.dumps(_packed(photos))
    open_one = _packed(photos)
    before = open_one[1][0]
    _packed(photos, cache_size=8)
    with pytest.raises(InputError, match="was replaced while it was in use: start the run again"):
        pickle.loads(kept)
    assert torch.equal(open_one[1][0], before)  # what is open stays what it was


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_verify_each_image_once(photos, context):
    packed = _packed(photos)
    loader = DataLoader(
        packed, batch_size=None, num_workers=2, multiprocessing_context=multiprocessing.get_context(context)
    )
    plain = IndexedImages(ImageFolder(photos), 3)
    for index, (image, _) in enumerate(loader):
        assert torch.equal(image.expand(3, -1, -1), plain[index][0])
    assert packed._packed._verified.all()


def test_the_file_is_never_written_to_by_a_reader(photos):
    _packed(photos)
    file = photos.parent / "photos.pack"
    content = file.read_bytes()
    file.chmod(0o444)
    packed = _packed(photos)
    assert not packed._packed._pixels.flags.writeable
    [np.asarray(packed[index][0]) for index in range(len(packed))]
    assert file.read_bytes() == content


def test_images_of_one_shape_come_in_one_call_and_others_do_not(photos):
    folder = _packed(photos)
    assert folder.images_at([0, 3]) is None  # no two are of one size
    together = folder.images_at([2, 2])
    assert torch.equal(together, torch.stack([folder[2][0]] * 2))
    together.zero_()
    assert folder[2][0].any()
    assert ImageFolder(photos).images_at([2]) is None


def test_damage_is_found_in_images_that_come_in_one_call(photos):
    folder = _packed(photos)
    _damage(photos.parent / "photos.pack", int(folder._packed._rows["offset"][2]))
    with pytest.raises(InputError, match="checksum of image 2 differs"):
        _packed(photos).images_at([2, 2])


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_hands_out_the_images_of_a_cache_in_one_piece(tmp_path, workers):
    for number in range(5):
        Image.fromarray(draw(0, number, 24, 30)).convert("RGB").save(tmp_path / f"{number}.png")
    folder = ImageFolder(tmp_path, cache=tmp_path / "of.pack")
    data = ImageData(folder, SimCLRViews(size=8), batch_size=2, workers=workers)
    for batch in data.train_dataloader():
        assert torch.equal(batch.inputs, torch.stack([data.train_set[at][0] for at in batch.index.tolist()]))


@pytest.mark.parametrize("worker", [None, object()])
def test_a_worker_makes_a_batch_in_the_memory_that_it_hands_over(photos, worker, monkeypatch):
    monkeypatch.setattr(packed, "get_worker_info", lambda: worker)
    assert _packed(photos).images_at([2, 2]).is_shared() == (worker is not None)

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from contrast.data.folder import ImageFolder
from contrast.errors import InputError
from tests.data.formats import draw, write_image_folder, write_imagenet_folder


def write(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw(0, number, 24, 24)).save(root / name)


def relative(folder: ImageFolder) -> list[str]:
    return [os.path.relpath(path, folder.root) for path in folder.paths]


def refusal(root: Path, class_folders: bool | None = None) -> str:
    with pytest.raises(InputError) as refused:
        ImageFolder(root, class_folders)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_class_folders_are_labels(tmp_path: Path):
    write_image_folder(tmp_path, 7, classes=("dog", "cat", "Bird"))
    folder = ImageFolder(tmp_path / "train")
    assert folder.classes == ["Bird", "cat", "dog"]
    assert relative(folder) == [
        "Bird/2.png",
        "Bird/5.png",
        "cat/1.png",
        "cat/4.png",
        "dog/0.png",
        "dog/3.png",
        "dog/6.png",
    ]
    assert folder.labels == [0, 0, 1, 1, 2, 2, 2]
    assert len(folder) == 7
    image, label = folder[4]
    assert label == 2
    assert np.array_equal(np.asarray(image), draw(0, 0, 24, 32))


def test_order_is_natural_and_does_not_depend_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(
        tmp_path,
        "img10.png",
        "img9.png",
        "img1.png",
        "IMG2.png",
        "b/1.png",
        "a/20/x.png",
        "a/3/x.png",
        "01.png",
        "1.png",
    )
    expected = [
        "01.png",
        "1.png",
        "a/3/x.png",
        "a/20/x.png",
        "b/1.png",
        "img1.png",
        "IMG2.png",
        "img9.png",
        "img10.png",
    ]
    folder = ImageFolder(tmp_path)
    assert relative(folder) == expected
    assert folder.labels is None
    assert folder.classes == []
    assert folder[3][1] is None
    scandir = os.scandir

    class Reversed:
        def __init__(self, path: str) -> None:
            with scandir(path) as entries:
                self.entries = list(entries)[::-1]

        def __enter__(self) -> list[os.DirEntry[str]]:
            return self.entries

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(os, "scandir", Reversed)
    assert relative(ImageFolder(tmp_path)) == expected


def test_class_folders_can_be_said_instead_of_seen(tmp_path: Path):
    write(tmp_path / "classes", "a/1.png", "b/1.png")
    assert ImageFolder(tmp_path / "classes").labels == [0, 1]
    assert ImageFolder(tmp_path / "classes", class_folders=False).labels is None
    write(tmp_path / "mixed", "a/1.png", "stray.png")
    assert relative(ImageFolder(tmp_path / "mixed")) == ["a/1.png", "stray.png"]
    assert ImageFolder(tmp_path / "mixed").labels is None
    assert relative(ImageFolder(tmp_path / "mixed", class_folders=True)) == ["a/1.png"]
    assert ImageFolder(tmp_path / "mixed", class_folders=True).labels == [0]


def test_hidden_names_and_other_files_are_passed_over(tmp_path: Path):
    write(tmp_path, "a/1.PNG", "a/.hidden.png", ".cache/2.png", "a/deep/er/3.JpEg", "a/.ipynb_checkpoints/4.png")
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "a" / "list.csv").write_text("1,2")
    folder = ImageFolder(tmp_path)
    assert folder.classes == ["a"]
    assert relative(folder) == ["a/1.PNG", "a/deep/er/3.JpEg"]


def test_links_are_followed_but_not_in_circles(tmp_path: Path):
    write(tmp_path, "store/1.png", "root/a/2.png")
    os.symlink(tmp_path / "store", tmp_path / "root" / "b")
    os.symlink(tmp_path / "root", tmp_path / "root" / "a" / "up")
    os.symlink("3.png", tmp_path / "root" / "b" / "3.png")
    folder = ImageFolder(tmp_path / "root", class_folders=False)
    assert relative(folder) == ["a/2.png", "b/1.png", "b/3.png"]
    with pytest.raises(InputError, match=r"b/3.png' cannot be read: Too many levels"):
        folder[2]


def test_published_files_are_read_by_content(tmp_path: Path):
    write_imagenet_folder(tmp_path, 8)
    folder = ImageFolder(tmp_path / "train")
    assert len(folder.classes) == 4
    assert {image.mode for image, _ in (folder[place] for place in range(8))} == {"L", "RGB", "CMYK"}


def test_missing_and_empty_folders_are_named(tmp_path: Path):
    assert "there is no image folder" in refusal(tmp_path / "none")
    assert "none" in refusal(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert f"{str(tmp_path / 'empty')!r} holds no image:" in refusal(tmp_path / "empty")
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone" / "1.heic").touch()
    assert "holds no image, only .heic files" in refusal(tmp_path / "phone")
    (tmp_path / "a.zip").touch()
    assert "unpacked" in refusal(tmp_path / "a.zip")


def test_a_class_folder_without_an_image_is_named(tmp_path: Path):
    write(tmp_path, "cat/1.png")
    (tmp_path / "dog").mkdir()
    (tmp_path / "dog" / "notes.txt").touch()
    (tmp_path / "emu" / "nested").mkdir(parents=True)
    assert refusal(tmp_path).startswith(f"class folders 'dog', 'emu' in {str(tmp_path)!r} without an image")
    assert relative(ImageFolder(tmp_path, class_folders=False)) == ["cat/1.png"]
    write(tmp_path / "flat", "1.png")
    assert "class_folders is true" in refusal(tmp_path / "flat", class_folders=True)


def test_splits_are_not_taken_for_classes(tmp_path: Path):
    write_image_folder(tmp_path, 2)
    message = refusal(tmp_path)
    assert "test, train" in message
    assert str(tmp_path / "test") in message
    assert ImageFolder(tmp_path, class_folders=True).classes == ["test", "train"]


def damage(root: Path) -> list[str]:
    """A cut JPEG, an empty PNG and a text among whole images."""
    write(root, "a/1.png", "a/2.jpg", "a/3.png", "b/4.png", "b/5.png")
    whole = (root / "a/2.jpg").read_bytes()
    (root / "a/2.jpg").write_bytes(whole[: len(whole) * 2 // 3])
    (root / "a/3.png").write_bytes(b"")
    (root / "b/5.png").write_text("moved")
    return [str(root / name) for name in ("a/2.jpg", "a/3.png", "b/5.png")]


def test_a_damaged_file_is_named_when_it_is_reached(tmp_path: Path):
    bad = damage(tmp_path)
    folder = ImageFolder(tmp_path)
    assert len(folder) == 5
    assert folder.skipped == []
    for path, reason in zip(bad, ["[Tt]runcated", "empty", "not an image"], strict=True):
        with pytest.raises(InputError, match=f"^'{path}' does not decode .*{reason}.*on_corrupt: skip"):
            folder[folder.paths.index(path)]


def test_damaged_files_can_be_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
):
    bad = damage(tmp_path)
    with caplog.at_level(logging.WARNING):
        folder = ImageFolder(tmp_path, on_corrupt="skip")
    assert relative(folder) == ["a/1.png", "b/4.png"]
    assert folder.labels == [0, 1]
    assert folder.classes == ["a", "b"]
    assert [path for path, _ in folder.skipped] == bad
    assert all(reason for _, reason in folder.skipped)
    assert len(caplog.messages) == 1
    assert caplog.messages[0].startswith(
        f"3 of 5 images in {str(tmp_path)!r} do not decode and are left out (a/2.jpg: "
    )
    assert "\n" not in caplog.messages[0]
    assert capsys.readouterr().err == ""  # the bar waits
    assert all(isinstance(image, Image.Image) for image, _ in (folder[place] for place in range(2)))


def test_of_many_damaged_files_the_log_names_three(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write(tmp_path, "whole.png")
    for number in range(9):
        (tmp_path / f"{number}.png").write_bytes(b"")
    assert len(ImageFolder(tmp_path, on_corrupt="skip").skipped) == 9
    assert "2.png" in caplog.messages[0]
    assert "3.png" not in caplog.messages[0]
    assert "; and 6 more)" in caplog.messages[0]


def test_nothing_is_said_where_all_decode(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    write(tmp_path, "a/1.png", "b/2.png")
    folder = ImageFolder(tmp_path, on_corrupt="skip")
    assert folder.skipped == []
    assert len(folder) == 2
    assert caplog.messages == []


def test_leaving_out_everything_is_refused(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.png").touch()
    with pytest.raises(InputError, match=r"none of the 1 images .* decodes"):
        ImageFolder(tmp_path, on_corrupt="skip")
    write(tmp_path, "b/1.png")
    with pytest.raises(InputError, match=r"class folder 'a' .* without an image that decodes"):
        ImageFolder(tmp_path, on_corrupt="skip")


def test_a_file_that_may_not_be_read_is_not_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    write(tmp_path, "1.png", "2.png")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(InputError, match="cannot be read: Permission denied"):
        ImageFolder(tmp_path, on_corrupt="skip")


def test_an_image_of_no_range_is_left_out_too(tmp_path: Path):
    write(tmp_path, "1.png")
    Image.fromarray(torch.ones(4, 4).numpy()).save(tmp_path / "2.tif")
    folder = ImageFolder(tmp_path, on_corrupt="skip")
    assert relative(folder) == ["1.png"]
    assert "PIL mode F" in folder.skipped[0][1]

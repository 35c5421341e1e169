"""The contact sheet: its layout, and that it shows what the recipe makes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from contrast.data.contact_sheet import contact_sheet
from contrast.data.views import ColourJitter, RandomResizedCrop, SimCLRViews, Views
from contrast.errors import InputError


class WholeImages(Views):
    """No change but of brightness, so that the sheet can be foretold."""

    def __init__(self, brightness: float = 0.0) -> None:
        crop = RandomResizedCrop(8, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0.0)
        super().__init__(crop, (ColourJitter(brightness, 0.0, 0.0, 0.0),))


def test_a_sheet_of_unchanged_views_repeats_the_image(tmp_path):
    images = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    contact_sheet(images, WholeImages(), tmp_path / "sheet.png", epochs=2)
    with Image.open(tmp_path / "sheet.png") as opened:
        sheet = np.asarray(opened)
    assert sheet.shape == (2 * 96 + 3 * 4, 5 * 96 + 4 + 12 + 4 + 12 + 4 + 4, 3)
    for row, top in enumerate((4, 104)):
        for left in (4, 112, 212, 320, 420):
            cell = sheet[top : top + 96, left : left + 96]
            assert (cell[6::12, 6::12, 1] == images[row, 0].numpy()).all()
    assert (sheet[:4] == 255).all()


def test_columns_are_the_epochs_views(tmp_path):
    images = torch.full((3, 1, 8, 8), 100, dtype=torch.uint8)
    contact_sheet(images, WholeImages(brightness=0.9), tmp_path / "sheet.png", epochs=2, seed=5)
    with Image.open(tmp_path / "sheet.png") as opened:
        sheet = np.asarray(opened)
    shown = sheet[50::100, [160, 260, 368, 468], 0]
    made = [view for epoch in (0, 1) for view in WholeImages(brightness=0.9)(images, torch.arange(3), epoch, 5)]
    expected = (torch.stack([view[:, 0, 0, 0] for view in made], 1) * 255).round()
    assert shown.tolist() == expected.tolist()


def test_images_of_different_sizes_make_a_sheet(tmp_path):
    images = [torch.zeros(3, 200, 100, dtype=torch.uint8), torch.zeros(3, 20, 50, dtype=torch.uint8)]
    contact_sheet(images, SimCLRViews(size=40), tmp_path / "sheet.png", epochs=1)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size == (3 * 120 + 4 + 12 + 4 + 4, 2 * 120 + 12)


def test_nothing_to_show_is_an_error(tmp_path):
    images = torch.zeros(1, 3, 8, 8, dtype=torch.uint8)
    with pytest.raises(InputError, match="epochs is 0"):
        contact_sheet(images, WholeImages(), tmp_path / "sheet.png", epochs=0)
    with pytest.raises(InputError, match="0 images"):
        contact_sheet(images[:0], WholeImages(), tmp_path / "sheet.png")

"""aeon's sets: the published numbers of samples, and one line where aeon or a set is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import contrast.data.series.files as bundled
from contrast.data.labels import check_same_classes
from contrast.data.series import AeonSet
from contrast.errors import InputError


@pytest.mark.parametrize(
    ("name", "train", "test", "shape", "classes"),
    [
        ("JapaneseVowels_eq", 270, 370, (12, 25), 9),
        ("BasicMotions", 40, 40, (6, 100), 4),
        ("ItalyPowerDemand", 67, 1029, (1, 24), 2),
    ],
)
def test_the_sets_have_their_published_sizes(name: str, train: int, test: int, shape: tuple[int, int], classes: int):
    one, other = AeonSet(name), AeonSet(name, split="test")
    assert (len(one), len(other)) == (train, test)
    assert tuple(one[0][0].shape) == tuple(other[5][0].shape) == shape
    assert one.labels is not None
    assert sorted(set(one.labels.tolist())) == list(range(classes))
    assert len(one.classes) == classes
    check_same_classes(one, other)


def test_vowels_come_in_their_own_lengths_too():
    lengths = {AeonSet("JapaneseVowels")[place][0].shape[1] for place in range(0, 270, 30)}
    assert len(lengths) > 3


def test_aeon_itself_is_not_imported():
    AeonSet("BasicMotions")
    assert "aeon" not in sys.modules


def test_another_set_is_refused_with_the_list():
    with pytest.raises(
        InputError, match=r"no set 'BasicMotion' in aeon's package; did you mean 'BasicMotions'.*GunPoint"
    ):
        AeonSet("BasicMotion")


def test_without_aeon_one_line_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bundled.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'contrast\[series\]'"):
        AeonSet("BasicMotions")


def test_a_set_of_files_is_found_where_aeon_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(bundled, "_folder", lambda: tmp_path)
    with pytest.raises(InputError, match="no set"):
        AeonSet("BasicMotions")

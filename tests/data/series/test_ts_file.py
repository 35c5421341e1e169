"""`.ts` files: the real format, and one line for whatever does not fit it."""

from __future__ import annotations

from pathlib import Path

import pytest

from contrast.data.series import TsFile
from contrast.errors import InputError
from tests.data.series.files import VOWELS, write_ts


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as refused:
        TsFile(path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_file_of_the_archive(tmp_path: Path):
    file = TsFile(write_ts(tmp_path / "a.ts"))
    assert len(file) == 3
    assert file.classes == ["1", "2", "10"]  # in natural order
    assert file.labels is not None
    assert file.labels.tolist() == [2, 0, 1]
    series, label = file[0]
    assert series.tolist() == [[1.5, 2.5, pytest.approx(-0.3)], [4, 5, 6]]
    assert label == 2
    assert [file[place][0].shape[1] for place in range(3)] == [3, 2, 4]


def test_the_order_of_the_header_does_not_matter(tmp_path: Path):
    one = TsFile(write_ts(tmp_path / "a.ts"))
    other = TsFile(write_ts(tmp_path / "b.ts", VOWELS.replace("true 1 10 2", "true 2 1 10")))
    assert one.labels is not None
    assert other.labels is not None
    assert one.labels.tolist() == other.labels.tolist()


def test_names_of_classes_are_words_too(tmp_path: Path):
    text = VOWELS.replace("true 1 10 2", "true Walking Run a2 a10").replace(":10\n", ":a10\n")
    file = TsFile(write_ts(tmp_path / "a.ts", text.replace(":1\n", ":Run\n").replace(":2\n", ":a2\n")))
    assert file.classes == ["Run", "Walking", "a2", "a10"]


def test_a_file_without_classes_has_no_labels(tmp_path: Path):
    text = VOWELS.replace("@classLabel true 1 10 2", "@classLabel false")
    text = text.replace(":10\n", "\n").replace(":1\n", "\n").replace(":2\n", "\n")
    file = TsFile(write_ts(tmp_path / "a.ts", text))
    assert file.labels is None
    assert file[0][1] is None
    assert file[0][0].shape == (2, 3)


def test_the_target_of_a_regression_is_passed_over(tmp_path: Path):
    file = TsFile(write_ts(tmp_path / "a.ts", VOWELS.replace("@classLabel true 1 10 2", "@targetlabel true")))
    assert file.labels is None
    assert file[0][0].shape == (2, 3)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("0.25,0.5", "0.25,?", ["line 12", "series 1", "channel 0 is nan at step 1"]),
        ("11,12", "11,NaN", ["line 13", "series 2", "channel 1 is nan at step 1"]),
        ("0.25,0.5", "0.25,half", ["line 12", "channel 0 is not a list of numbers", "0.25,half"]),
        ("0.25,0.5", "0.25,,", ["line 12", "channel 0 is not a list of numbers"]),
        ("1.0,2.0:1", "1.0,2.0,3.0:1", ["line 12", "channels have 2 to 3 steps"]),
        ("1.0,2.0:1", "1.0,2.0:9", ["line 12", "the class 9 is not among", "1, 2, 10"]),
        ("@timeStamps false", "@timeStamps true", ["timestamps"]),
        ("@data", "", ["line 11", "comes before @data"]),
        ("0.25,0.5:1.0,2.0:1", "1", ["line 12", "no channel"]),
    ],
)
def test_what_does_not_fit_is_named(old: str, new: str, words: list[str], tmp_path: Path):
    path = write_ts(tmp_path / "a.ts", VOWELS.replace(old, new))
    said = refusal(path)
    for word in [str(path), *words]:
        assert word in said


def test_files_that_are_no_ts(tmp_path: Path):
    assert "there is no file" in refusal(tmp_path / "none.ts")
    assert "cannot be read" in refusal(tmp_path)
    (tmp_path / "b.ts").write_bytes(b"\xff\xfe\x00")
    assert "is not text" in refusal(tmp_path / "b.ts")
    assert "no line @data" in refusal(write_ts(tmp_path / "c.ts", ""))
    assert "holds no series" in refusal(write_ts(tmp_path / "d.ts", VOWELS[: VOWELS.index("@data") + 6]))


def test_byte_order_mark_latin_1_comment_and_trailing_comma(tmp_path: Path):
    plain = TsFile(write_ts(tmp_path / "a.ts"))
    latin = ("# gemessen in M\u00fcnchen\n" + VOWELS).encode("latin-1")
    for name, content in (
        ("mark", b"\xef\xbb\xbf" + VOWELS.encode()),
        ("latin", latin),
        ("comma", VOWELS.replace("0.25,0.5", "0.25,0.5,").encode()),
    ):
        (tmp_path / f"{name}.ts").write_bytes(content)
        other = TsFile(tmp_path / f"{name}.ts")
        assert [each[0].tolist() for each in other] == [each[0].tolist() for each in plain], name
    (tmp_path / "wide.ts").write_bytes(VOWELS.encode("utf-16"))
    assert "in UTF-8" in refusal(tmp_path / "wide.ts")

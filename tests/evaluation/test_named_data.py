"""Numbers and samples name their data: paths, counts, classes and checksums in every command, file and page."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from contrast.cli import main
from contrast.dashboard.summary import summarise
from contrast.data import Digits, ImageFolder
from contrast.data.identity import names_of
from contrast.records import read_rows
from contrast.report.samples import read_gallery, read_samples
from contrast.run_folder import RunFolder
from tests.commands.running import SMALL

CLASSES = ("cat", "dog", "emu")


def _photos(root: Path, train: bool, count: int) -> Path:
    for number, (image, label) in zip(range(count), Digits(train=train), strict=False):
        path = root / CLASSES[label % 3] / f"{number:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image[0].numpy()).save(path)
    return root


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunFolder, str]:
    """A run on folders of pictures, with every command that shows data; what they printed."""
    home = tmp_path_factory.mktemp("named")
    flags = ["--data.limit", "null", "--data.batch_size", "10", "--data.workers", "0", "--pairs.gallery", "40"]
    for split, train, count in (("train", True, 40), ("test", False, 20)):
        root = _photos(home / split, train, count)
        flags += [f"--data.{split}", f"{{class_path: contrast.data.ImageFolder, init_args: {{root: {root}}}}}"]
    run = home / "run"
    assert main(["pretrain", *SMALL, *flags, "--run", str(run)]) == 0
    with pytest.MonkeyPatch.context() as patched:
        printed: list[str] = []
        patched.setattr("builtins.print", lambda *words, **_: printed.append(" ".join(map(str, words))))
        assert main(["knn", str(run), "--neighbours", "5"]) == 0
        assert main(["duplicates", str(run), "--threshold", "0.5"]) == 0
        assert main(["report", str(run)]) == 0
    return home, RunFolder(run), "\n".join(printed)


def _protocol(run: RunFolder) -> dict:
    (path,) = run.evaluations.glob("knn-*.json")
    return dict(json.loads(path.read_text())["protocol"])


def test_a_protocol_names_paths_counts_classes_and_checksums(evaluated):
    home, run, printed = evaluated
    for split, count in (("train", 40), ("test", 20)):
        data = _protocol(run)["data"][split]
        assert (data["path"], data["samples"], data["classes"]) == (str(home / split), count, list(CLASSES))
        assert data["contents_of"] == "sizes and modification times of the files"
        assert len({data["names"], data["labels"], data["contents"]}) == 3
        line = f"{split}: {home / split} (ImageFolder), {count} samples of 3 classes (cat, dog, emu), checksum "
        assert f"{line}{data['contents'][:8]}" in printed
        assert f"{line}{data['contents'][:8]}" in (page := run.report.read_text())
    assert "data.train.classes" in page
    assert "data.train.classes.0" not in page


def test_the_dashboard_says_on_which_data_an_accuracy_was_measured(evaluated):
    home, run, _ = evaluated
    summary = summarise(run)
    assert summary.facts["Data"] == f"ImageFolder {home / 'train'}"
    assert summary.accuracy is not None
    assert f"test: {home / 'test'} (ImageFolder), 20 samples" in summary.accuracy.data


def test_every_sample_of_the_gallery_has_its_class_and_file(evaluated):
    home, run, _ = evaluated
    shown = [row for row in read_rows(run.gallery) if "queries" in row]
    samples = [pair for row in shown for pair in row["highest"] + row["lowest"] + row["queries"]]
    samples += [negative for row in shown for query in row["queries"] for negative in query["negatives"]]
    assert len(samples) > 40
    for sample in samples:
        assert sample["class"] == CLASSES[sample["label"]]
        assert (home / "train" / sample["path"]).is_file()
        assert sample["path"].startswith(f"{sample['class']}/")
    page = run.report.read_text()
    assert f'title="{shown[-1]["highest"][0]["path"]}"' in page
    assert f"· {shown[-1]['highest'][0]['class']}" in page


def test_every_point_of_the_data_map_has_its_file(evaluated):
    home, run, _ = evaluated
    samples = read_samples(run)
    assert samples is not None
    assert len(samples.paths) == len(samples.index) > 30
    assert samples.paths[0] == names_of(ImageFolder(home / "train"))[samples.index[0]]
    assert samples.paths[-1] in run.report.read_text()


def test_duplicates_are_listed_with_files_and_class_names(evaluated):
    home, run, _ = evaluated
    found = json.loads((run.duplicates / "duplicates.json").read_text())
    for kind, sides in (("within train", ("train", "train")), ("test and train", ("test", "train"))):
        pairs = found[kind]
        assert len(pairs["listed"]) == len(pairs["paths"]) == len(pairs["classes"]) > 0
        for paths, classes in zip(pairs["paths"], pairs["classes"], strict=True):
            for side, path, name in zip(sides, paths, classes, strict=True):
                assert (home / side / path).is_file()
                assert path.startswith(f"{name}/")


def test_rows_of_earlier_versions_without_names_are_shown_by_number(evaluated, tmp_path):
    _, run, _ = evaluated
    old = RunFolder(Path(shutil.copytree(run.path, tmp_path / "old")))
    text = run.gallery.read_text().splitlines()
    rows = [json.loads(line) for line in text]

    def without(value: object) -> object:
        if isinstance(value, list):
            return [without(each) for each in value]
        if not isinstance(value, dict):
            return value
        return {key: without(each) for key, each in value.items() if key not in ("class", "path", "numbering")}

    old.gallery.write_text("".join(json.dumps(without(row)) + "\n" for row in rows))
    gallery = read_gallery(old)
    assert gallery is not None
    assert gallery.groups["highest"][0].class_name == ""
    assert main(["report", str(old.path)]) == 0
    assert f"class {gallery.groups['highest'][0].label}" in old.report.read_text()

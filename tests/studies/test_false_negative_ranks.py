"""The ranks of a small run against a sort of every score."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from contrast.run_folder import RunFolder
from studies.false_negative_ranks import _embedded, _loaded, main, measure
from tests.commands.running import pretrain


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nearest") / "seed-0"
    bank = ["--model.bank", "FaissBank", "--model.bank.size", 96, "--model.bank.per_sample", "true"]
    assert pretrain(folder, "--model", "MoCo", *bank, "--model.bank.mining.count", 8) == 0
    return folder


def test_queries_and_keys_are_two_views_by_two_encoders(run: Path) -> None:
    method, data = _loaded(RunFolder(run))
    query, key = _embedded(method, data)
    for rows in (query, key):
        torch.testing.assert_close(rows.norm(dim=1), torch.ones(96))
    first, second = data.views_of(torch.arange(96), 1_000_000).inputs
    torch.testing.assert_close(query, method.embed(first))
    torch.testing.assert_close(key, torch.nn.functional.normalize(method.key_encoder(second), dim=-1))


def test_ranks_are_those_of_a_sort_of_every_score(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, data = _loaded(RunFolder(run))
    generator = torch.Generator().manual_seed(0)  # trained so little, rows lie too close to be told apart
    query, key = torch.nn.functional.normalize(torch.randn(2, 96, 2, generator=generator), dim=-1)
    monkeypatch.setattr("studies.false_negative_ranks._embedded", lambda method, data: (query, key))
    labels, found = data.train_labels, measure(RunFolder(run))
    hits, above, right = torch.zeros(95), 0, 0
    for i in range(96):
        others = sorted((j for j in range(96) if j != i), key=lambda j: -float(query[i] @ key[j]))
        hits += torch.tensor([float(labels[j] == labels[i]) for j in others])
        near = [j for j in others[:10] if float(query[i] @ key[j]) > 0.9]
        above, right = above + len(near), right + sum(int(labels[j] == labels[i]) for j in near)
    torch.testing.assert_close(found.rate.float(), hits / 96)
    assert found.chance == pytest.approx(float(hits.sum()) / 96 / 95)
    assert found.removed == pytest.approx(above / 96)
    assert found.precision == (pytest.approx(right / above) if above else None)


def test_a_line_a_configuration_and_a_figure(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run), str(run), "--figure", str(tmp_path / "ranks.svg")]) == 0
    _, _, line = capsys.readouterr().out.splitlines()
    assert line.startswith(f"| {run.parent.name} | ")
    assert line.endswith(" | 2 |")
    assert "False negatives by rank" in (tmp_path / "ranks.svg").read_text()


def test_a_figure_of_too_many_lines_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = [str(tmp_path / str(place) / "seed-0") for place in range(6)]
    assert main([*runs, "--figure", str(tmp_path / "ranks.svg")]) == 2
    assert "colours for 5 lines, and the runs are of 6 folders" in capsys.readouterr().err


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "is not a run folder" in capsys.readouterr().err

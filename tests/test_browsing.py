"""Where no browser is installed: a reason to skip, and in CI a failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browsing import browser_program


@pytest.mark.parametrize(("ci", "outcome"), [("", pytest.skip.Exception), ("1", pytest.fail.Exception)])
def test_a_missing_browser_is_a_failure_in_ci(
    ci: str, outcome: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="install one of chromium"):
        browser_program()

"""The browser that tests look at pages with."""

from __future__ import annotations

import os

import pytest

from tests.harness.browser import PROGRAMS, find_browser


def browser_program() -> str:
    """Its path; without one a test is skipped, but where CI is set it fails: there what nobody saw is no pass."""
    program = find_browser()
    if program is not None:
        return program
    missing = f"no browser to draw the page in: install one of {', '.join(PROGRAMS)}"
    if os.environ.get("CI"):
        pytest.fail(missing)
    pytest.skip(missing)

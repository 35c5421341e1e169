"""Entry point of `python -m contrast`."""

from contrast.cli import main

raise SystemExit(main())

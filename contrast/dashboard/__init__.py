"""Dashboard: a local web page of all runs below a folder, updated while they train.

The dashboard reads files only: it imports neither model code nor torch.
"""

from contrast.dashboard.app import dashboard_app, serve

__all__ = ["dashboard_app", "serve"]

"""A local web page of all runs below a folder, live while they train; reads files only, no model code, no torch."""

from contrast.dashboard.app import dashboard_app, serve

__all__ = ["dashboard_app", "serve"]

"""The files of a run folder: atomic writes, status, checkpoints and history of settings."""

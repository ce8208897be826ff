"""Batch jobs in napari: commands, and the dock in which a job is built."""

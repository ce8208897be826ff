"""The Models dock: what models there are, what becomes of them, and how good they are."""

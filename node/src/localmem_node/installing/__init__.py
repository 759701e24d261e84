"""Wiring editors: which files, what goes into them, and how it comes out again."""

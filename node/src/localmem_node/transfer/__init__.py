"""A memory as a file: exporting it, sealing it, checking it, importing it."""

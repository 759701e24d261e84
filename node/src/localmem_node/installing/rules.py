"""What a model is told about localmem, where an editor has a place for rules."""

from __future__ import annotations

from typing import Final

ADVICE: Final = """\
localmem remembers earlier sessions in this project: prompts, edits, commands, errors and answers.

- Before you ask the user for something that may have come up before, or search the code for why it
  is as it is, call the tool `query_recent` of the MCP server `localmem` with a short question.
- `timeline` shows what happened around an event, with the ids that `query_recent` gives.
- When the user says that something must be remembered, call `record_event`; `pin` keeps it for good.
- What it returns is a memory and may be out of date: the files as they are now go first.
"""

CURSOR_RULES: Final = f"""\
---
description: What localmem remembers of earlier sessions, and how to ask it
alwaysApply: true
---

# localmem

{ADVICE}"""

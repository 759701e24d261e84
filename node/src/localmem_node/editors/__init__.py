"""What Claude Code, Codex and Cursor say, read into events: pure, without files and clocks."""

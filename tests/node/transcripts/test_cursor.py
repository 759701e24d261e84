"""What little Cursor's transcripts say, and what can be made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from localmem_node.cli.transcripts import imported
from localmem_node.config import Settings, load_settings
from localmem_node.transcripts.cursor import folder_of, records_of_text, time_in
from support.capturing_daemon import CapturingDaemon

TEXT = """user:
<user_query>
Set the tax to 19 %
</user_query>

assistant:
[Thinking] Where is it?
Reading first.
[Tool call] Read
  path: /home/dev/shop/price.py

[Tool result] Read

assistant:
The tax is 19 % now.
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings({"LOCALMEM_HOME": str(tmp_path / "home")})


def test_an_old_transcript_of_plain_text_has_prompts_and_answers(
    tmp_path: Path, settings: Settings
) -> None:
    path = tmp_path / "projects" / "home-dev-shop" / "agent-transcripts" / "c1.txt"
    path.parent.mkdir(parents=True)
    path.write_text(TEXT)
    daemon = CapturingDaemon()
    report = imported("cursor", tmp_path / "projects", settings, {}, daemon)
    assert daemon.texts == [("prompt", "Set the tax to 19 %"), ("answer", "The tax is 19 % now.")]
    assert {draft.session for draft, _ in daemon.kept} == {"c1"}
    assert report.recorded == 2
    assert imported("cursor", path, settings, {}, daemon).files == 0
    path.with_suffix(".jsonl").write_text("")
    assert imported("cursor", path.parent, settings, {}, daemon, again=True).lines == 0
    assert list(records_of_text("")) == list(records_of_text("user:\nassistant:\n")) == []


@pytest.mark.parametrize(
    ("written", "moment"),
    [
        ("Wednesday, Nov 25, 2026, 10:24 PM (UTC+0)", 1_795_645_440_000),
        ("Wednesday, Nov 25, 2026, 12:24 AM (UTC)", 1_795_566_240_000),
        ("Wednesday, Nov 25, 2026, 12:24 PM (UTC-5)", 1_795_627_440_000),
        ("Wednesday, Nov 25, 2026, 5:54 PM (UTC+5:30)", 1_795_609_440_000),
        ("Wednesday, Foo 25, 2026, 5:54 PM (UTC+5:30)", None),
        ("Monday, Feb 31, 2026, 5:54 PM (UTC+1)", None),
        ("now", None),
    ],
)
def test_the_time_above_a_prompt(written: str, moment: int | None) -> None:
    assert time_in(f"<timestamp>{written}</timestamp>\n<user_query>\nx\n</user_query>") == moment


def test_a_project_is_found_by_its_folders_name_if_only_one_can_be_meant(tmp_path: Path) -> None:
    for name in ("home/dev/my-shop.app", "home/dev/my/other", "home/a-b", "home/a/b"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "home" / "dev" / "file").touch()
    assert folder_of("home-dev-my-shop-app", tmp_path) == f"{tmp_path}/home/dev/my-shop.app"
    assert folder_of("home-dev-my-other", tmp_path) == f"{tmp_path}/home/dev/my/other"
    assert folder_of("home-a-b", tmp_path) is None, "two of them"
    assert folder_of("home-dev-file", tmp_path) is None
    assert folder_of("home-gone", tmp_path) is None
    assert folder_of("", tmp_path) is None


def test_a_subagents_transcript_has_its_report_alone(tmp_path: Path, settings: Settings) -> None:
    path = tmp_path / "agent-transcripts" / "c1" / "subagents" / "s1.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text(
        '{"role":"user","message":{"content":[{"type":"text","text":"find it"}]}}\n'
        '{"role":"assistant","message":{"content":[{"type":"tool_use","name":"Shell",'
        '"input":{"command":"rg tax"}}]}}\n'
        '{"role":"assistant","message":{"content":[{"type":"text","text":"Found."}]}}\n'
    )
    daemon = CapturingDaemon()
    imported("cursor", path, settings, {}, daemon)
    assert daemon.texts == [("answer", "[subagent] Found.")]
    assert {draft.session for draft, _ in daemon.kept} == {"c1"}

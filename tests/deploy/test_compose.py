"""The compose files are what the specification allows, and say what the documentation promises."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
import yaml

from support.images import ROOT

FILES = ("compose.yaml", "compose.scale.yaml")
# It names its draft without the fragment that the library looks for.
VALIDATOR = jsonschema.Draft7Validator(
    json.loads((ROOT / "tests/fixtures/compose/compose-spec.json").read_text())
)


def compose(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((ROOT / "deploy/docker" / name).read_text())
    return loaded


@pytest.mark.parametrize("name", FILES)
def test_it_follows_the_published_schema(name: str) -> None:
    VALIDATOR.validate(compose(name))


def test_the_schema_refuses_what_is_wrong() -> None:
    wrong = compose("compose.yaml")
    wrong["services"]["hub"]["read_only"] = ["yes"]
    with pytest.raises(jsonschema.ValidationError, match="is not of type"):
        VALIDATOR.validate(wrong)


@pytest.mark.parametrize("name", FILES)
def test_hubs_have_no_right_that_they_do_not_need(name: str) -> None:
    services = compose(name)["services"]
    for one in services.values():
        if "build" not in one:
            continue
        assert one["read_only"] is True
        assert one["cap_drop"] == ["ALL"]
        assert one["security_opt"] == ["no-new-privileges:true"]
        assert one.get("ports", ["127.0.0.1:8765:8765"]) == ["127.0.0.1:8765:8765"]


def test_of_many_hubs_only_the_proxy_is_reached_from_outside() -> None:
    scale = compose("compose.scale.yaml")
    assert [name for name, one in scale["services"].items() if "ports" in one] == ["proxy"]
    inside = scale["networks"]["inside"]
    assert inside["internal"]
    trusted = scale["services"]["hub"]["environment"]["LOCALMEM_HUB_TRUSTED_PROXIES"]
    assert [one["subnet"] for one in inside["ipam"]["config"]] == [trusted]
    assert all(
        one["networks"] == ["inside"] for name, one in scale["services"].items() if name != "proxy"
    )

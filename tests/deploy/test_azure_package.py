"""What is published as a function: the zip, its settings, and the template of what it runs on."""

from __future__ import annotations

import hashlib
import json
import re
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from pycep import BicepParser

from bench.azure_app import package
from bench.azure_costs import DEVICES, Assumptions, month
from bench.azure_day import requests_in_a_day
from localmem_hub.settings import PREFIX, load_settings
from support.images import ROOT

HERE = ROOT / "deploy/azure-functions"
TEMPLATE = HERE / "main.bicep"
README = (HERE / "README.md").read_text()
ROLES = {
    "Storage Blob Data Owner": "b7e6dc6d-f1e8-4753-8033-0f276bb0955b",
    "Storage Blob Data Contributor": "ba92f5b4-2d11-453d-a403-e96b0029c9fe",
    "Monitoring Metrics Publisher": "3913510d-42f4-4e42-8a64-420c390055eb",
}
"""As Azure numbers them everywhere."""


@pytest.fixture(scope="module")
def template() -> Any:
    return BicepParser().parse(text=TEMPLATE.read_text())


def test_the_zip_holds_the_function_and_what_no_registry_has() -> None:
    with zipfile.ZipFile(package()) as packed:
        names = set(packed.namelist())
        wheels = {name for name in names if name.endswith(".whl")}
        assert names - wheels == {"function_app.py", "host.json", "requirements.txt"}
        assert {re.split("-", Path(name).name)[0] for name in wheels} == {
            "localmem_hub",
            "localmem_protocol",
        }
        needed = packed.read("requirements.txt").decode()
        for wheel in wheels:
            digest = hashlib.sha256(packed.read(wheel)).hexdigest()
            assert f"./{wheel} \\\n    --hash=sha256:{digest}\n" in needed
    pinned = re.findall(r"^([a-z0-9-]+)==", needed, re.MULTILINE)
    assert {"azure-functions", "azure-identity", "azure-storage-blob", "starlette"} <= set(pinned)
    assert not {"localmem-node", "numpy", "onnxruntime", "psycopg"} & set(pinned)
    assert "http" not in needed.replace("httpx", "")  # no address of anybody's registry


def test_the_lock_covers_what_the_hub_says_it_needs() -> None:
    lock = (HERE / "requirements.txt").read_text()
    pinned = set(re.findall(r"^([a-z0-9-]+)==", lock, re.MULTILINE))
    project = tomllib.loads((ROOT / "hub/pyproject.toml").read_text())["project"]
    for need in [*project["dependencies"], *project["optional-dependencies"]["azure"]]:
        name = re.split(r"[^a-z0-9-]", need)[0]
        assert name in pinned or name.startswith("localmem-")


def test_the_example_of_local_settings_are_settings() -> None:
    values = json.loads((HERE / "local.settings.json.example").read_text())["Values"]
    ours = {name: text for name, text in values.items() if name.startswith(PREFIX)}
    settings = load_settings(ours, Path("/"))
    assert settings.open
    assert settings.database.startswith("azure-blob://")
    assert values["FUNCTIONS_WORKER_RUNTIME"] == "python"


def test_the_template_needs_no_key_and_lets_nothing_in_the_clear(template: Any) -> None:
    resources = template["resources"]
    accounts = [
        one["config"]["properties"]
        for one in resources.values()
        if one["type"] == "Microsoft.Storage/storageAccounts"
    ]
    assert len(accounts) == 2
    for account in accounts:
        assert account["allowSharedKeyAccess"] is False
        assert account["allowBlobPublicAccess"] is False
        assert account["supportsHttpsTrafficOnly"] is True
        assert account["minimumTlsVersion"] == "TLS1_2"
    hub = resources["hub"]["config"]
    assert hub["identity"] == {"type": "SystemAssigned"}
    assert hub["properties"]["httpsOnly"] is True
    deployment = hub["properties"]["functionAppConfig"]["deployment"]["storage"]
    assert deployment["authentication"] == {"type": "SystemAssignedIdentity"}
    assert resources["plan"]["config"]["sku"] == {"name": "FC1", "tier": "FlexConsumption"}
    text = TEMPLATE.read_text()
    assert not re.search(r"listKeys|AccountKey|connectionString\(|@secure", text, re.IGNORECASE)
    assert text.count("publicAccess: 'None'") == 2
    assert text.count("properties: { allow: false }") == 2  # no passwords for publishing


def test_what_devices_forget_is_kept_by_nothing() -> None:
    account = TEMPLATE.read_text().split("resource storage ", 1)[1].split("resource plan ", 1)[0]
    for kept in ("deleteRetentionPolicy", "containerDeleteRetentionPolicy"):
        assert f" {kept}: {{ enabled: false }}" in account
    assert "isVersioningEnabled: false" in account


def test_each_identity_has_the_least_role_that_does(template: Any) -> None:
    text = TEMPLATE.read_text()
    variables = {
        name: one["value"]["function"]["parameters"]["resource_name_1"]
        for name, one in template["variables"].items()
        if isinstance(one["value"], dict)
        and one["value"]["function"]["type"] == "subscription_resource_id"
    }
    assert set(variables.values()) == set(ROLES.values())
    found = {}
    for name, one in template["resources"].items():
        if one["type"] == "Microsoft.Authorization/roleAssignments":
            config = one["config"].get(
                "config", one["config"]
            )  # below a condition, if there is one
            role = variables[config["properties"]["roleDefinitionId"]]
            block = text.split(f"resource {name} ", 1)[1]
            scope = re.search(r"^  scope: (\S+)$", block, re.MULTILINE)
            assert scope is not None
            found[name] = (role, scope[1])
    container = "storage::blobs::container"
    assert found == {
        "hostRole": (ROLES["Storage Blob Data Owner"], "hostStorage"),
        "hubRole": (ROLES["Storage Blob Data Contributor"], container),
        "operatorRole": (ROLES["Storage Blob Data Contributor"], container),
        "insightsRole": (ROLES["Monitoring Metrics Publisher"], "insights"),
    }


def test_the_settings_that_the_template_makes_are_settings() -> None:
    text = TEMPLATE.read_text()
    made = dict(re.findall(rf"^      ({PREFIX}[A-Z_]+): (.+)$", text, re.MULTILINE))
    # Of these the timer's is the function's own.
    assert made.pop(f"{PREFIX}CARE") == "care"
    values = {
        f"{PREFIX}DATABASE": "azure-blob://memory",
        f"{PREFIX}STORAGE_ACCOUNT": "https://account.blob.core.windows.net/",
        f"{PREFIX}ORIGIN": "https://hub.azurewebsites.net",
        f"{PREFIX}OPEN": "false",
    }
    assert set(made) == set(values)
    assert load_settings(values, Path("/")).origins >= {"https://hub.azurewebsites.net"}


def test_the_costs_in_the_readme_are_those_that_the_command_prints() -> None:
    day = requests_in_a_day()
    rows = [month(count, day["posts"], day["polls"], Assumptions()) for count in DEVICES]
    for row in rows:
        assert "| " + " | ".join(f"{value:,}" for value in row.values()) + " |" in README
    for figure in (*day.values(), requests_in_a_day(0)["polls"]):
        assert f" {figure} " in README.replace("\n", " ")


def test_every_parameter_is_in_the_readme_with_its_default(template: Any) -> None:
    rows = re.findall(r"^\| `([A-Za-z]+)` \| (.+?) \|", README, re.MULTILINE)
    told = {name: default.strip("`") for name, default in rows}
    for name, one in template["parameters"].items():
        default = one["default"]
        if name in ("name", "location"):
            assert name in told
        else:
            assert told[name] == (
                json.dumps(default) if not isinstance(default, str) else default or "none"
            )

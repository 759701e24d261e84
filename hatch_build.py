"""Binds the root distribution to its members.

From a checkout they are the folders beside this file, so `pip install .` needs nothing published;
with RELEASE set they are the same version on the index.
"""

import os
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

FOLDERS = {"protocol": "protocol", "minilm": "models/minilm", "node": "node", "hub": "hub"}


class Members(MetadataHookInterface):
    def update(self, metadata: dict[str, Any]) -> None:
        def member(name: str, extra: str = "") -> str:
            if os.environ.get("RELEASE"):
                return f"localmem-{name}{extra}=={metadata['version']}"
            return f"localmem-{name}{extra} @ {Path(self.root, FOLDERS[name]).as_uri()}"

        metadata["dependencies"] = [member("protocol"), member("minilm"), member("node")]
        metadata["optional-dependencies"] = {
            "hub": [member("hub")],
            "nats": [member("hub", "[nats]")],
            "postgresql": [member("hub", "[postgresql]")],
            "hnswlib": [member("node", "[hnswlib]")],
            "torch": [member("node", "[torch]")],
        }

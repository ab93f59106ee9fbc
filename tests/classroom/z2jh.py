"""What the chart of Zero to JupyterHub takes for the values that the course writes.

Names and types are those of ``jupyterhub/values.schema.yaml`` in github.com/jupyterhub/zero-to-jupyterhub-k8s as of
commit 02dd73d (BSD-3-Clause), written anew for the parts in use; where the chart allows no other name, nor does this.
"""

from __future__ import annotations

from typing import Any

TEXT, NUMBER, WHOLE = {"type": ["string", "null"]}, {"type": ["number", "null"]}, {"type": "integer"}
AMOUNT = {"type": ["number", "string", "null"]}
ANYTHING: dict[str, Any] = {"type": "object", "additionalProperties": True}


def closed(required: tuple[str, ...] = (), **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": list(required),
        "properties": properties,
    }


FILE = closed(("mountPath",), mountPath={"type": "string"}, mode={"type": "number"}, data=ANYTHING,
              stringData={"type": "string"}, binaryData={"type": "string"})  # fmt: skip
FILE["oneOf"] = [{"required": [way]} for way in ("data", "stringData", "binaryData")]
FILES = {"type": "object", "additionalProperties": False, "patternProperties": {".*": FILE}}
IMAGE = closed(("name", "tag"), name={"type": "string"}, tag={"type": "string"}, pullSecrets={"type": "array"})
NETWORK = closed(enabled={"type": "boolean"}, ingress={"type": "array"}, egress={"type": "array"})
VALUES = closed(
    hub=closed(config=ANYTHING, extraFiles=FILES, extraConfig=ANYTHING),
    singleuser=closed(
        image=IMAGE, cmd={"type": ["array", "string", "null"]}, defaultUrl=TEXT,
        startTimeout={"type": ["integer", "null"]}, memory=closed(limit=AMOUNT, guarantee=AMOUNT),
        cpu=closed(limit=NUMBER, guarantee=NUMBER), storage=closed(capacity=TEXT, homeMountPath={"type": "string"}),
        extraEnv={"type": ["object", "array"]}, networkPolicy=NETWORK,
    ),
    cull=closed(enabled={"type": "boolean"}, timeout=WHOLE),
)  # fmt: skip

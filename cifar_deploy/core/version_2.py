"""Records of version 2 as version 3 has them: origins, trials and settings as values of their own.

Version 2 told a baseline by its name, an external model by the arrays that it took, a uint8 input by the format's suffix,
and the conditions of a job by free words in its options.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

Json = dict[str, Any]

_CONTROL = "control:"

# What was expected of a job under a memory limit, by the place of the limit.
_EXPECTED = {"above the claim": "runs", "below the claim": "either", "below what was counted": "runs out"}


class From2:
    """A step as core.upgrades takes it: the keys of jobs change with their shape, and a session's cells are such keys."""

    def __init__(self) -> None:
        self._keys: dict[str, str] = {}  # of jobs, by their former ones

    def learn(self, kind: str, fields: Mapping[str, Any]) -> None:
        if kind == "block":
            former = former_key(fields["job"])
            if former not in self._keys:
                self._keys[former] = _key(_job(fields["job"]))

    def turn(self, kind: str, fields: Mapping[str, Any]) -> Json:
        turn = {"block": self._block, "job": _job, "artifact": _artifact, "session": self._session}.get(kind)
        return turn(fields) if turn else dict(fields)

    def _block(self, block: Mapping[str, Any]) -> Json:
        session = block.get("session")
        return {**block, "job": _job(block["job"]), "session": session and self._session(session)}

    def _session(self, session: Mapping[str, Any]) -> Json:
        return {**session, "cells": [self._cell(cell) for cell in session["cells"]]}

    def _cell(self, cell: str) -> str:
        control, key = (_CONTROL, cell[len(_CONTROL) :]) if cell.startswith(_CONTROL) else ("", cell)
        return control + self._keys.get(key, key)


def _job(job: Mapping[str, Any]) -> Json:
    options = job["options"]
    kept = {name: value for name, value in job.items() if name != "options"}
    settings = {name: options[name] for name in ("seconds", "limit_test") if options.get(name) is not None}
    return {**kept, "artifact": _artifact(job["artifact"]), **settings, "trial": _trial(options)}


def _trial(options: Mapping[str, Any]) -> Json:
    if "limit_bytes" in options:
        return {
            "kind": "under limit",
            "limit_bytes": options["limit_bytes"],
            "limited_by": options["limit_kind"],
            "expected": _EXPECTED[options["limit"]],
        }
    if "sustain_s" in options:
        return {"kind": "sustained", "seconds": options["sustain_s"]}
    if "isa" in options:
        return {"kind": "under isa", "isa": options["isa"]}
    return {"kind": "ordinary"}


def _artifact(artifact: Mapping[str, Any]) -> Json:
    kept = {name: value for name, value in artifact.items() if name not in ("checkpoint", "takes")}
    format = artifact["format"].removesuffix("-uint8")
    input = "float32" if format == artifact["format"] else "uint8"
    return {**kept, "origin": _origin(artifact), "format": format or None, "input": input}


def _origin(artifact: Mapping[str, Any]) -> Json:
    checkpoint = artifact["checkpoint"]
    training = checkpoint["training"]
    if artifact.get("takes") is not None:
        return {"kind": "external", "path": training["name"], "takes": artifact["takes"]}
    if training["name"].startswith("_floor-"):
        weights = checkpoint["weights"]
        return {"kind": "baseline", "network": training["network"], "data": training["data"], "weights": weights}
    return {"kind": "trained", "checkpoint": checkpoint}


def former_key(job: Mapping[str, Any]) -> str:
    """The key that version 2 gave to a job of its own."""
    artifact = job["artifact"]
    training = artifact["checkpoint"]["training"]
    names = ("backend", "device", "metric", "threads", "batch_size", "options", "protocol", "versions")
    identity = {
        "name": training["name"],
        "weights": artifact["checkpoint"]["weights"]["sha256"],
        "data": training["data"]["fingerprint"],
        "format": artifact["format"],
        "files": [file["sha256"] for file in artifact["files"]],
        **{name: job[name] for name in names},
        "backend_options": job.get("backend_options", {}),
        "machine": {"instructions": [], **job["machine"]},
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def _key(job: Mapping[str, Any]) -> str:
    from cifar_deploy.core.codec import from_json
    from cifar_deploy.core.records import Job

    return from_json(Job, job).key

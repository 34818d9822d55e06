"""Records of version 2 as version 3 has them: origins, trials and settings as values of their own, in the field's words.

Version 2 told a baseline by its name, an external model by the arrays that it took, a uint8 input by the format's suffix,
and the conditions of a job by free words in its options.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

Json = dict[str, Any]
Fields = Mapping[str, Any]

_CONTROL = "control:"

# What was expected of a job under a memory limit, by the place of the limit.
_EXPECTED = {"above the claim": "runs", "below the claim": "either", "below what was counted": "runs out"}

_RECIPES = {"paper": "original"}
_METRICS = {"multiply_adds": "macs"}


class From2:
    """A step as core.upgrades takes it: the keys of jobs change with their shape, and a session lists such keys."""

    def __init__(self) -> None:
        self._keys: dict[str, str] = {}  # of jobs, by their former ones
        self._turns: Mapping[str, Callable[[Fields], Json]] = {
            "run": self._run,
            "job": _job,
            "artifact": _artifact,
            "checkpoint": _checkpoint,
            "begun": _begun,
            "data": _data,
        }

    def learn(self, kind: str, fields: Fields) -> None:
        if kind == "run":
            former = former_key(fields["job"])
            if former not in self._keys:
                self._keys[former] = _key(_job(fields["job"]))

    def turn(self, kind: str, fields: Fields) -> Json:
        return self._turns.get(kind, dict)(fields)

    def _run(self, run: Fields) -> Json:
        session, reading = run.get("session"), run["reading"]
        return {
            **_without(run, "reading"),
            "job": _job(run["job"]),
            "session": session and self._session(session),
            "measurement": reading and {**reading, "values": _renamed(reading["values"], _METRICS)},
        }

    def _session(self, session: Fields) -> Json:
        return {**_without(session, "cells"), "jobs": [self._slot(cell) for cell in session["cells"]]}

    def _slot(self, cell: str) -> str:
        control, key = (_CONTROL, cell[len(_CONTROL) :]) if cell.startswith(_CONTROL) else ("", cell)
        return control + self._keys.get(key, key)


def _without(fields: Fields, *names: str) -> Json:
    return {name: value for name, value in fields.items() if name not in names}


def _renamed(fields: Fields, names: Mapping[str, str]) -> Json:
    return {names.get(name, name): value for name, value in fields.items()}


def _job(job: Fields) -> Json:
    options = job["options"]
    settings = {name: options[name] for name in ("seconds", "limit_test") if options.get(name) is not None}
    return {
        **_without(job, "options"),
        "artifact": _artifact(job["artifact"]),
        "metric": _METRICS.get(job["metric"], job["metric"]),
        **settings,
        "trial": _trial(options),
    }


def _trial(options: Fields) -> Json:
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


def _artifact(artifact: Fields) -> Json:
    format = artifact["format"].removesuffix("-uint8")
    return {
        **_renamed(_without(artifact, "checkpoint", "takes"), {"misread": "mismatches"}),
        "origin": _origin(artifact),
        "format": format or None,
        "input": "float32" if format == artifact["format"] else "uint8",
    }


def _origin(artifact: Fields) -> Json:
    checkpoint = artifact["checkpoint"]
    training = checkpoint["training"]
    if artifact.get("takes") is not None:
        return {"kind": "external", "path": training["name"], "takes": artifact["takes"]}
    if training["name"].startswith("_floor-"):
        return {
            "kind": "baseline",
            "network": training["network"],
            "data": _data(training["data"]),
            "weights": checkpoint["weights"],
        }
    return {"kind": "trained", "checkpoint": _checkpoint(checkpoint)}


def _checkpoint(checkpoint: Fields) -> Json:
    renamed = _renamed(checkpoint, {"multiply_adds": "macs"})
    return {**renamed, "training": _training(checkpoint["training"])}


def _begun(begun: Fields) -> Json:
    return {**begun, "training": _training(begun["training"])}


def _training(training: Fields) -> Json:
    recipe = training["recipe"]
    name = _RECIPES.get(recipe["name"], recipe["name"])
    return {**training, "recipe": {**recipe, "name": name}, "data": _data(training["data"])}


def _data(data: Fields) -> Json:
    return _renamed(data, {"deviation": "std"})


def former_key(job: Fields) -> str:
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


def _key(job: Fields) -> str:
    from cifar_deploy.core.codec import from_json
    from cifar_deploy.core.records import Job

    return from_json(Job, job).key

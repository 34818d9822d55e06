"""What each column of the report means, by its title."""

from collections.abc import Iterable

from cifar_deploy.core.table import Section
from cifar_deploy.metrics import METRICS

_WORDS = {
    "network": "the name under which a network was trained",
    "file": "an external model, by its file",
    "format": "the file format of the artifact, with its precision and its input if that is uint8",
    "backend": "the runtime that runs the artifact",
    "device": "what it runs on: cpu, cuda ...",
    "threads": "the threads that the runtime may use",
    "CPUs": "the processors that the process was pinned to (--cpus); any: all that it may use",
    "batch": "images in one call; own: each metric's own batch size",
    "metric": "what was measured",
    "instructions": "the newest instruction set that the runtime may use",
    "pick": "the part of the answer that names this configuration",
    "claim": "what the original report says",
    "latency": "the median time of one call, host array in to logits out: the median of the rounds' medians",
    "p90": "90 % of the calls of all rounds take at most so long",
    "end to end": "latency from a uint8 image in memory, its conversion included",
    "model load": "the time to load the artifact, its file in the system's cache",
    "first inference": "the time of the first call after the load",
    "memory": "peak resident memory of a process that does nothing else",
    "size": "bytes of all files of the artifact",
    "float32 in": "end-to-end latency with a float32 input, which numpy converts",
    "uint8 in": "end-to-end latency with a uint8 input, which the graph converts",
    "top-1 agreement": "share of the test images that have the same label as by PyTorch eager",
    "negative flips": "images that PyTorch eager labels correctly and this configuration does not",
    "positive flips": "images that this configuration labels correctly and PyTorch eager does not",
    "accuracy change": "accuracy less that of the reference, in percentage points",
    "McNemar p": "probability of flips as lopsided as these if both were equally accurate (exact test)",
    "test image": "its place in the test set",
    "is": "the true class",
    "reference label": "the label by PyTorch eager",
    "label": "the label by this configuration",
    "reported": "the original report's number",
    "report's accuracy": "the original report's number",
    "ours": "the number measured here, through PyTorch eager",
    "verdict": "what the comparison says",
    "python": "resident memory of the interpreter and the worker's modules",
    "measurement overhead": "resident memory of numpy, this program and the images",
    "runtime": "resident memory that the import of the runtime adds",
    "model": "resident memory that the load of the artifact adds",
    "resident at the end": "resident memory after the last call",
    "peak after warm-up": "peak resident memory while it goes on classifying",
    "peak at batch 64": "peak resident memory while it classifies 64 images at a time",
    "ended": "how a configuration that could not be held to these instructions ended",
}
# Of no column.
_GENERAL = {
    "interval": "[ ]: the 95 % confidence interval. ( ): a range, from the least to the greatest",
    "†, ‡": "noisy, invalid: the verdict on a measurement that the machine disturbed; see Measurement health",
    "Pareto set": "the configurations of which each is distinguishably more accurate than all that are faster",
    "INT8, FP16": "8-bit integers, 16-bit floating point; all else computes in float32",
    "round": "every configuration measured once, each in a process of its own, in a new order",
}


def glossary(sections: Iterable[Section]) -> dict[str, str]:
    """A meaning for every title of a column or a label, by that title; then the report's other words."""
    found: dict[str, str] = {}
    for section in sections:
        for title in section.label_titles:
            found.setdefault(title, _WORDS.get(title, section.title))
        for key, column in section.columns.items():
            metric = key.rpartition(".")[0] or key
            summary = METRICS[metric].summary if metric in METRICS or ":" in metric else section.title
            found.setdefault(column.title, column.meaning or _WORDS.get(column.title) or summary)
    return {**{title: found[title] for title in sorted(found, key=str.lower) if title}, **_GENERAL}

"""Which name of A is compared with which name of B.

A name is a training's, or an external model's path as it was typed. The rules, in this order:

1. `--pair A=B`
2. the same name
3. the same path, spelled otherwise (./m.onnx and m.onnx)
4. the same content: sha256 of the weights or of the files
5. the same end of the path, the longest first (v1/a/m.onnx and v2/a/m.onnx); of trainings, the same network
6. the only external model that is left over on each side

Each rule sees the names that the rules before it have left over, and pairs a name only if it is unique on both sides.
Rules 5 and 6 guess, so they pair only what takes the same input. Several files that are left over are not paired by
their position: a wrong guess there would pass a gate unseen.
"""

import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal, TypeAlias

from cifar_deploy.core.errors import UnknownName, UsageError
from cifar_deploy.core.records import External, Result, Trained
from cifar_deploy.metrics.summary import same_input

Rule = Literal["pair", "name", "path", "sha256", "end of path", "network", "only one left"]

# For people: why a name of A is compared with another name of B.
REASONS: Mapping[Rule, str] = {
    "pair": "--pair says so",
    "name": "the same name",
    "path": "the same path",
    "sha256": "the same sha256",
    "end of path": "the same end of the path",
    "network": "the same network",
    "only one left": "the only file left over on each side",
}


@dataclass(frozen=True, kw_only=True)
class Match:
    """Two names that are compared, and the rule that paired them."""

    a: str
    b: str
    rule: Rule


_Named: TypeAlias = Mapping[str, Result]  # by name, one result that tells what carries it


def matched(
    a: Iterable[Result], b: Iterable[Result], pairs: Sequence[str] = (), *, any_input: bool = False
) -> list[Match]:
    """The names of A and B that belong together; a name that no rule pairs is in none.

    Args:
        pairs: "A=B", as `--pair` has them.
        any_input: Guesses pair what takes other input, too.

    Raises:
        UsageError: `pairs` names what is not there, or one name twice.
    """
    left_a, left_b = _by_name(a), _by_name(b)
    matches = list(_as_told(pairs, left_a, left_b))
    longest = max((len(_parts(name)) for name in (*left_a, *left_b)), default=0)
    rules: list[tuple[Rule, Callable[[Result], Hashable | None]]] = [
        ("name", lambda result: result.job.artifact.name),
        ("path", _path),
        ("sha256", _content),
        *(("end of path", lambda result, parts=parts: _end(result, parts)) for parts in range(longest, 0, -1)),
        ("network", _network),
        ("only one left", lambda result: "" if _is_external(result) else None),
    ]
    for rule, key in rules:
        for match in matches:
            left_a.pop(match.a, None)
            left_b.pop(match.b, None)
        ours, theirs = _unique(left_a, key), _unique(left_b, key)
        for same in ours.keys() & theirs.keys():
            first, second = ours[same], theirs[same]
            if _is_guess(rule) and not (any_input or is_same_input(left_a[first], left_b[second])):
                continue
            matches.append(Match(a=first, b=second, rule=rule))
    return matches


def is_same_input(a: Result, b: Result) -> bool:
    """Whether both are fed with the same. What failed may not have told what it takes."""
    return bool(a.failure or b.failure) or same_input(a.job, b.job)


def _is_guess(rule: Rule) -> bool:
    return rule in ("end of path", "network", "only one left")


def _by_name(results: Iterable[Result]) -> dict[str, Result]:
    """The newest result of each name, one that did not fail if there is one."""
    found: dict[str, Result] = {}
    for result in results:
        name = result.job.artifact.name
        if not result.failure or name not in found or found[name].failure:
            found[name] = result
    return found


def _unique(named: _Named, key: Callable[[Result], Hashable | None]) -> dict[Hashable, str]:
    """Names by their key, without the keys that several share."""
    found: dict[Hashable, list[str]] = {}
    for name, result in named.items():
        if (value := key(result)) is not None:
            found.setdefault((_is_external(result), value), []).append(name)
    return {value: names[0] for value, names in found.items() if len(names) == 1}


def _is_external(result: Result) -> bool:
    return isinstance(result.job.artifact.origin, External)


def _parts(name: str) -> tuple[str, ...]:
    return PurePath(os.path.normpath(name)).parts


def _path(result: Result) -> Hashable | None:
    return _parts(result.job.artifact.name) if _is_external(result) else None


def _end(result: Result, parts: int) -> Hashable | None:
    path = _parts(result.job.artifact.name)
    return path[-parts:] if _is_external(result) and len(path) >= parts else None


def _content(result: Result) -> Hashable | None:
    artifact = result.job.artifact
    return artifact.weights_sha256 or frozenset(file.sha256 for file in artifact.files) or None


def _network(result: Result) -> Hashable | None:
    origin = result.job.artifact.origin
    return origin.network if isinstance(origin, Trained) else None


def _as_told(pairs: Sequence[str], a: _Named, b: _Named) -> Iterator[Match]:
    """What `--pair` says. A name may be the end of a path, if no other path has that end."""
    seen: set[tuple[str, str]] = set()
    for text in pairs:
        first, second = _split(text, a, b)
        for side, name in (("A", first), ("B", second)):
            if (side, name) in seen:
                raise UsageError(f"--pair: {name} of {side} is given twice; give each name once")
            seen.add((side, name))
        yield Match(a=first, b=second, rule="pair")


def _split(text: str, a: _Named, b: _Named) -> tuple[str, str]:
    """Both names of "A=B". A name may hold an equals sign itself."""
    places = [place for place, character in enumerate(text) if character == "="]
    splits = [(text[:place], text[place + 1 :]) for place in places if text[:place] and text[place + 1 :]]
    if not splits:
        raise UsageError(f"--pair: {text} is no pair; give a name of A and one of B, as in --pair old.onnx=new.onnx")
    for left, right in splits:
        first, second = _known(left, a), _known(right, b)
        if first and second:
            return first, second
    left, right = next(((left, right) for left, right in splits if _known(left, a)), splits[0])
    if not _known(left, a):
        raise UnknownName.among("network or file of A (--pair)", left, a)
    raise UnknownName.among("network or file of B (--pair)", right, b)


def _known(given: str, named: _Named) -> str | None:
    """The name that is meant, or None."""
    if given in named:
        return given
    ends = [name for name in named if _parts(name)[-len(_parts(given)) :] == _parts(given)]
    return ends[0] if len(ends) == 1 else None

"""An artifact and a backend -> its profile: the time of each operator, stored with its trace."""

from collections.abc import Callable, Mapping, Sequence

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import machine
from cifar_deploy.core.defaults import SECONDS
from cifar_deploy.core.errors import DeployError, Unsupported, UsageError, one_line
from cifar_deploy.core.isolate import Worker
from cifar_deploy.core.profile import Operator, Profile
from cifar_deploy.core.progress import counted
from cifar_deploy.core.records import Artifact, variant_name
from cifar_deploy.core.registry import interpreter_for
from cifar_deploy.core.store import Store
from cifar_deploy.core.table import Column, Row, Section, Value
from cifar_deploy.formats import FORMATS, given
from cifar_deploy.stages import plan, prepare, train
from cifar_deploy.stages.export import readers, versions_of
from cifar_deploy.workers import profile as worker

# Operators that a table shows.
_SHOWN = 10

# Of an operator's name a table shows both ends, so that it fits 80 columns. The trace and JSON have all of it.
_LONGEST_NAME = 24


def profile(
    store: Store,
    name: str,
    *,
    format: str = "onnx",
    backend: str | None = None,
    threads: int = 1,
    seconds: float = SECONDS,
    trusted: bool = False,
) -> Profile:
    """The time of each operator of a trained network in a format, on a backend: by default the first that can tell.

    Profiles at least 5 and at most 200 inferences of one image. Record and trace are stored (see `Store.trace_path`).

    Raises UsageError if there is no such artifact or the backend does not read it, Unsupported if the backend cannot tell.
    """
    plan.check_names(formats=[format], backends=[backend] if backend else None)
    base, input = given(format)
    chosen = _profiler(base, backend)
    artifact = exported(store, name, variant_name(base, input))
    plugin, versions = BACKENDS[chosen], versions_of(chosen)
    if failure := plan.why_unavailable(artifact, chosen, plugin.validated_on, versions):
        raise DeployError(failure.reason)
    assert artifact.data
    started = machine.now()
    found = Worker(
        what=f"{artifact.title} on {chosen}", pool_threads=threads, interpreter=interpreter_for(plugin)
    ).call(
        worker.profile,
        artifact=artifact,
        backend=chosen,
        threads=threads,
        seconds=seconds,
        root=store.root,
        data_folder=prepare.images_for(artifact.data),
        trusted=trusted,
    )
    made = Profile(
        name=artifact.name,
        format=artifact.variant,
        files=artifact.files,
        backend=chosen,
        device=plugin.validated_on,
        threads=threads,
        inferences=len(found.inference_s),
        seconds=sum(found.inference_s),
        operators=found.operators,
        machine=machine.machine(),
        versions=versions,
        started=started,
        commit=machine.commit(),
        note=found.note,
    )
    store.save_profile(made)
    return made


def _profiler(format: str, backend: str | None) -> str:
    """The backend that profiles the format. Raises UsageError if it does not read it, Unsupported if it cannot profile."""
    reading = readers(format, [backend] if backend else None)
    if not reading:
        raise UsageError(
            f"--backend: {backend} does not read {format}; give one of {', '.join(readers(format))}, or another --format"
        )
    able = [each for each in reading if BACKENDS[each].profile]
    if able:
        return able[0]
    refusing = reading[0]
    raise Unsupported(
        f"{format} on {refusing}: cannot be profiled, since {BACKENDS[refusing].why_no_profile}; "
        f"these can, with a format that they read: {', '.join(name for name in BACKENDS if BACKENDS[name].profile)}"
    )


def exported(store: Store, name: str, format: str) -> Artifact:
    """The artifact of a trained network that the user named. Raises UsageError if there is none of its weights."""
    weights = train.checkpoint(store, name).weights
    artifact = store.artifact(name, format)
    # An export of weights that were since replaced is another network's.
    if not artifact or artifact.weights_sha256 != weights.sha256:
        exported = [one.variant for one in store.artifacts(name) if one.weights_sha256 == weights.sha256]
        raise UsageError(
            f"--format: no {format} of {name} is exported (there are: {', '.join(exported)}); "
            f"run `cifar-deploy export {name} --format {format}`"
        )
    return artifact


_COLUMNS: Mapping[str, Column] = {
    "share": Column(title="share", unit="%", stored_unit="1", scale=100, digits=1),
    "calls": Column(title="calls", unit="", stored_unit="calls", digits=0),
    "mean": Column(title="mean", unit="µs", stored_unit="s", scale=1e6, digits=1),
}


def lines(profile: Profile) -> tuple[str, ...]:
    """What was profiled, and what it found, for people."""
    threads = counted(profile.threads, "thread")
    what = f"{profile.name} {profile.format} on {profile.backend} ({profile.device}, {threads})"
    each_ms = profile.seconds / profile.inferences * 1000
    return (
        f"{what}: {counted(profile.inferences, 'inference')} of {each_ms:.3f} ms, {profile.profiled_share:.0%} in operators",
        f"{profile.convolutions_in(_reduced(profile.format))}.",
        "Calls are those of one inference. Times include the profiler's own work: they are not comparable with a latency.",
        *([profile.note] if profile.note else []),
    )


def _reduced(variant: str) -> str:
    """The reduced precision of a format; int8 of one that reduces nothing."""
    precision = FORMATS[given(variant)[0]].precision
    return "int8" if precision == "float32" else precision


def sections(profile: Profile) -> tuple[Section, Section]:
    """The largest operators, by type and by node."""
    by_type, by_node = profile.by_type(), profile.by_node()
    return (
        _section("Operators by type", ("type", "precision"), by_type, profile, lambda one: (one.type, _precision(one))),
        _section(
            "Operators by node",
            ("operator", "type", "precision"),
            by_node,
            profile,
            lambda one: (one_line(one.name, _LONGEST_NAME), one.type, _precision(one)),
        ),
    )


def _precision(operator: Operator) -> str:
    return operator.precision or "unknown"


def _section(
    title: str,
    label_titles: tuple[str, ...],
    operators: Sequence[Operator],
    profile: Profile,
    labels: Callable[[Operator], tuple[str, ...]],
) -> Section:
    shown, rest = operators[:_SHOWN], operators[_SHOWN:]
    notes = (f"{len(rest)} more take {sum(map(profile.share, rest)):.1%}.",) if rest else ()
    rows = tuple(
        Row(
            labels=labels(one),
            values={key: Value(number=number) for key, number in _numbers(one, profile).items()},
        )
        for one in shown
    )
    return Section(title=title, label_titles=label_titles, columns=_COLUMNS, rows=rows, notes=notes)


def _numbers(operator: Operator, profile: Profile) -> Mapping[str, float]:
    return {
        "share": profile.share(operator),
        "calls": operator.calls / profile.inferences,
        "mean": operator.seconds / max(1, operator.calls),
    }

"""What INT8 and FP16 cost in accuracy and bring in speed, and where they bring none, with the likely reason."""

from collections.abc import Sequence

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import statistics
from cifar_deploy.core.charts import Axis, Forest, Panel, Span
from cifar_deploy.core.profile import Profile
from cifar_deploy.core.records import Job, Machine, Result
from cifar_deploy.core.statistics import Estimate
from cifar_deploy.core.table import Section
from cifar_deploy.formats import FORMATS
from cifar_deploy.metrics.summary import Configuration, Raw, Summary, agreement, compared_by
from cifar_deploy.sections.common import Configurations, by_settings, correct_of, is_int8, paired_ratio, short_labels
from cifar_deploy.sections.latencies import SPEED_UP

# Over the float network: less is not worth the accuracy.
_WORTH_IT = 1 / (1 - statistics.NOISE_BETWEEN_SESSIONS)


_MOST_ROWS = 48
# In one note.
_MOST_NAMES = 8

_PART = "quantisation"


def quantisation(configurations: Configurations, raw: Raw) -> Forest | None:
    """Each configuration of a reduced precision against its float32 form on the same runtime: accuracy change, speed-up."""
    changes: list[Span] = []
    speed_ups: list[Span] = []
    paired, headed = True, None
    rows = by_settings(configurations)
    labels = short_labels(each for each in rows if _float_form(each, rows))
    for configuration, of_one in rows.items():
        if configuration.input != "float32":
            continue
        of_float = _float_form(configuration, rows)
        speed_up = (
            paired_ratio(of_float.get("latency"), of_one.get("latency"), compared_by("latency")) if of_float else None
        )
        change = _accuracy_change(of_float, of_one, raw) if of_float else None
        if not change or not speed_up:
            continue
        found, by_image = change
        paired = paired and by_image
        if headed != configuration.name:
            headed = configuration.name
            changes.append(Span(label=headed))
            speed_ups.append(Span(label=headed))
        label = labels[configuration]
        changes.append(_span(label, found, f"{found.value:+.2f}", is_int8(configuration)))
        speed_ups.append(_span(label, speed_up, f"{speed_up.value:.2f}×", is_int8(configuration)))
    if not changes:
        return None
    how = (
        "Newcombe's 95 % interval, image by image"
        if paired
        else "the 95 % interval of two independent shares, since the predictions are not here"
    )
    notes = [
        f"Against the float32 form on the same runtime. Accuracy: {how}. Speed-up: higher is better. Filled: INT8; hollow: FP16.",
        *([f"The first {_MOST_ROWS} of {len(changes):,}."] if len(changes) > _MOST_ROWS else []),
    ]
    return Forest(
        part=_PART,
        title="What quantisation costs",
        panels=(
            Panel(
                title="Accuracy change",
                x=Axis(title="percentage points"),
                rows=tuple(changes[:_MOST_ROWS]),
                reference=0.0,
            ),
            Panel(
                title="Speed-up", x=Axis(title="× faster", log=True), rows=tuple(speed_ups[:_MOST_ROWS]), reference=1.0
            ),
        ),
        notes=(" ".join(notes),),
    )


def _float_form(configuration: Configuration, rows: Configurations) -> dict[str, Summary] | None:
    format = _float_format(configuration)
    return rows.get(configuration._replace(format=format)) if format else None


def _float_format(configuration: Configuration) -> str | None:
    """The float32 format that its own is a smaller form of; None if it is of none."""
    return FORMATS[configuration.format].reduces if configuration.format in FORMATS else None


def _accuracy_change(old: dict[str, Summary], new: dict[str, Summary], raw: Raw) -> tuple[Estimate, bool] | None:
    """In percentage points, and whether it was compared image by image."""
    first, second = (of["accuracy"].result if "accuracy" in of else None for of in (old, new))
    if not first or not second or not first.measurement or not second.measurement:
        return None
    found = agreement(first, second, raw, raw)
    numbers = (found.difference, found.low, found.high) if found else difference_of_shares(first, second)
    value, low, high = (100 * number for number in numbers)
    return Estimate(value=value, low=low, high=high, kind="interval"), bool(found)


def difference_of_shares(old: Result, new: Result) -> tuple[float, float, float]:
    """The accuracy of `new` less that of `old`, and its 95 % interval, of the counts alone."""
    (k1, n1), (k2, n2) = correct_of(new), correct_of(old)
    return k1 / n1 - k2 / n2, *statistics.difference(k1, n1, k2, n2)


def _span(label: str, found: Estimate, text: str, filled: bool) -> Span:
    between = None if found.rounds == 1 else (found.low, found.high)
    return Span(label=label, text=text, value=found.value, between=between, filled=filled)


def not_faster(configurations: Configurations, profiles: Sequence[Profile] = ()) -> Section | None:
    """Those of a reduced precision that are not faster than their float32 form, or may not be, by the likely reason."""
    rows = by_settings(configurations)
    labels = short_labels(rows)
    slow: dict[str, list[tuple[Configuration, Job]]] = {}  # by the reason
    named: dict[Configuration, str] = {}
    unclear: list[str] = []
    for configuration, of_one in rows.items():
        of_float, ours = _float_form(configuration, rows), of_one.get("latency")
        speed_up = paired_ratio(of_float.get("latency") if of_float else None, ours, compared_by("latency"))
        if not ours or not speed_up or speed_up.low >= _WORTH_IT:
            continue
        named[configuration] = f"{configuration.name} {labels[configuration]} ({SPEED_UP.text(speed_up.value)}×)"
        if speed_up.value < _WORTH_IT:
            job = ours.result.job
            reason = _reason(configuration, job.machine)
            slow.setdefault(reason, []).append((configuration, job))
        else:
            unclear.append(named[configuration])
    notes = [
        f"Not faster than float32: {_some([named[configuration] for configuration, _ in those])}. "
        f"Likely reason: {reason}.{_evidence(those, profiles)}"
        for reason, those in slow.items()
    ]
    if unclear:
        notes.append(
            f"Perhaps not faster than float32: {_some(unclear)}. The rounds lie too far apart to tell. More rounds "
            "(--rounds) or a quieter machine would."
        )
    title = "Where a reduced precision is not faster"
    return Section(title=title, label_titles=(), columns={}, rows=(), notes=tuple(notes), part=_PART) if notes else None


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES:,} more" if len(names) > _MOST_NAMES else ""
    return f"{'; '.join(names[:_MOST_NAMES])}{more}"


def _reason(configuration: Configuration, machine: Machine) -> str:
    if FORMATS[configuration.format].precision == "float16":
        if machine.has_float16():
            return f"{configuration.backend} may have no float16 kernels for this processor"
        return "this processor does not compute in float16"
    if machine.has_int8_dot_products() is False:
        return "this processor has no instructions for INT8 dot products"
    return f"what {configuration.backend} does besides multiplying outweighs what INT8 saves"


def _evidence(those: Sequence[tuple[Configuration, Job]], profiles: Sequence[Profile]) -> str:
    """What profiles of these artifacts on this machine found, or how to make the first; "" if none can be made."""
    can = [(configuration, job) for configuration, job in those if BACKENDS[configuration.backend].profile]
    found = [
        f"{profile.convolutions_in(FORMATS[configuration.format].precision)} ({_command(configuration)})."
        for configuration, job in can
        for profile in profiles
        if profile.is_of(job)
    ]
    if found:
        return f" Profile: {' '.join(found[:_MOST_NAMES])}"
    return f" To check: {_command(can[0][0])}" if can else ""


def _command(configuration: Configuration) -> str:
    return (
        f"cifar-deploy profile {configuration.name} --format {configuration.variant} --backend {configuration.backend}"
    )

"""What INT8 and FP16 cost in accuracy and bring in speed, and where they bring none, with the likely reason."""

from collections.abc import Iterable, Iterator

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import statistics
from cifar_deploy.core.charts import Axis, Forest, Panel, Span
from cifar_deploy.core.profile import Profile
from cifar_deploy.core.records import Job, Machine, Result, variant_name
from cifar_deploy.core.statistics import Estimate
from cifar_deploy.core.table import Value
from cifar_deploy.formats import FORMATS
from cifar_deploy.metrics.summary import Configuration, Raw, Summary, agreement, compared_by
from cifar_deploy.sections.common import Configurations, by_settings, correct_of, is_int8, paired_ratio, short_labels
from cifar_deploy.sections.latencies import SPEED_UP

# Over the float network: less is not worth the accuracy.
_WORTH_IT = 1 / (1 - statistics.NOISE_BETWEEN_SESSIONS)


_MOST_ROWS = 48


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
        part="quantisation",
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


def not_faster(configurations: Configurations, profiles: Iterable[Profile] = ()) -> Iterator[str]:
    """A sentence for each configuration of a reduced precision that is not faster than its float32 form beside it, or may not be."""
    column = compared_by("latency")
    for configuration, of_one in configurations.items():
        of_float = _float_form(configuration, configurations)
        named = variant_name(_float_format(configuration) or "", configuration.input)
        ours, theirs = of_one.get("latency"), of_float.get("latency") if of_float else None
        speed_up = paired_ratio(theirs, ours, column)
        if not ours or not speed_up or speed_up.low >= _WORTH_IT:
            continue
        shown = Value(number=speed_up.value, estimate=speed_up).text(SPEED_UP)
        if speed_up.value < _WORTH_IT:
            yield (
                f"{configuration} is not faster than {named} there (speed-up {shown}): "
                f"{_reason(configuration, ours.result.job.machine)}.{_evidence(configuration, ours.result.job, profiles)}"
            )
        else:
            yield (
                f"{configuration} may be faster than {named} there, or not (speed-up {shown}): its rounds lie too far "
                "apart to tell; more of them would (--rounds), or a quieter machine."
            )


def _reason(configuration: Configuration, machine: Machine) -> str:
    if FORMATS[configuration.format].precision == "float16":
        if machine.has_float16():
            return f"{configuration.backend} may have no float16 kernels for this processor"
        return "this processor does not compute in float16, and float32 is what is computed in"
    if machine.has_int8_dot_products() is False:
        return "this processor has no instructions for INT8 dot products"
    return f"what {configuration.backend} spends on other things than multiplying may outweigh what INT8 saves"


def _evidence(configuration: Configuration, job: Job, profiles: Iterable[Profile]) -> str:
    """What a profile of this artifact on this machine found, or how to make one."""
    if not BACKENDS[configuration.backend].profile:
        return ""
    command = (
        f"cifar-deploy profile {configuration.name} --format {configuration.variant} --backend {configuration.backend}"
    )
    for profile in profiles:
        if profile.is_of(job):
            return f" Its profile: {profile.convolutions_in(FORMATS[configuration.format].precision)} ({command})."
    return f" A profile tells how many convolutions run in a reduced precision ({command})."

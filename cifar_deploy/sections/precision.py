"""Where INT8 or FP16 brings no speed on this machine: said in words, with the likely reason."""

from collections.abc import Iterable, Iterator

from cifar_deploy.backends import BACKENDS
from cifar_deploy.core import statistics
from cifar_deploy.core.profile import Profile
from cifar_deploy.core.records import Job, Machine, variant_name
from cifar_deploy.core.table import Value
from cifar_deploy.formats import FORMATS
from cifar_deploy.metrics.summary import Configuration, compared_by
from cifar_deploy.sections.common import Configurations, paired_ratio
from cifar_deploy.sections.latencies import SPEED_UP

# Over the float network: less is not worth the accuracy.
_WORTH_IT = 1 / (1 - statistics.NOISE_BETWEEN_SESSIONS)


def not_faster(configurations: Configurations, profiles: Iterable[Profile] = ()) -> Iterator[str]:
    """A sentence for each configuration of a reduced precision that is not faster than its float32 form beside it, or may not be."""
    column = compared_by("latency")
    for configuration, of_one in configurations.items():
        float_form = FORMATS[configuration.format].reduces if configuration.format in FORMATS else None
        of_float = configurations.get(configuration._replace(format=float_form)) if float_form else None
        named = variant_name(float_form, configuration.input) if float_form else ""
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

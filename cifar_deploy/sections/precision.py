"""Where INT8 or FP16 brings no speed on this machine: said in words, with the likely reason."""

from collections.abc import Iterator

from cifar_deploy.core import statistics
from cifar_deploy.core.records import Machine
from cifar_deploy.core.table import Column, Value
from cifar_deploy.formats import FORMATS
from cifar_deploy.metrics.summary import Configuration, compared_by
from cifar_deploy.sections.common import Configurations, paired_ratio

# Of the float network's latency: what is not below is not worth its accuracy.
_WORTH_IT = 1 - statistics.NOISE_BETWEEN_SESSIONS

_RATIO = Column(title="ratio", unit="", stored_unit="1", interval=True)


def not_faster(configurations: Configurations) -> Iterator[str]:
    """A sentence for each configuration of a reduced precision that is not faster than its float32 form beside it, or may not be."""
    column = compared_by("latency")
    for configuration, of_one in configurations.items():
        float_form = FORMATS[configuration.format].reduces if configuration.format in FORMATS else None
        of_float = configurations.get(configuration._replace(format=float_form)) if float_form else None
        ours, theirs = of_one.get("latency"), of_float.get("latency") if of_float else None
        ratio = paired_ratio(ours, theirs, column)
        if not ours or not ratio or ratio.high <= _WORTH_IT:
            continue
        shown = Value(number=ratio.value, estimate=ratio).text(_RATIO)
        if ratio.value > _WORTH_IT:
            yield (
                f"{configuration} is not faster than {float_form} there ({shown} of its latency): "
                f"{_reason(configuration, ours.result.job.machine)}."
            )
        else:
            yield (
                f"{configuration} may be faster than {float_form} there, or not ({shown} of its latency): its rounds lie too far "
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

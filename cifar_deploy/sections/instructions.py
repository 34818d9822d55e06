"""INT8 under older instructions: whether the labels of this machine are those of another."""

from collections.abc import Sequence

from cifar_deploy.core.charts import Heat
from cifar_deploy.core.records import Result, UnderIsa
from cifar_deploy.core.table import Column, Row, Section
from cifar_deploy.metrics.summary import Configuration, Raw, agreement
from cifar_deploy.sections.accuracy import HOW_PAIRED, PAIRED, paired_row
from cifar_deploy.sections.common import Configurations, is_current, label_titles, labels_of
from cifar_deploy.sections.precision import difference_of_shares

_ENDED = Column(title="ended", unit="", stored_unit="")


def under_older(results: Sequence[Result], configurations: Configurations, raw: Raw) -> Section | None:
    """Each INT8 configuration's labels under a level of instructions against its labels under this processor's own."""
    newest = {
        (Configuration.of(result), trial.isa): result
        for result in results
        if isinstance(trial := result.job.trial, UnderIsa) and is_current(result, configurations)
    }
    titles = label_titles(configuration for configuration, _ in newest)
    rows: list[Row] = []
    notes = [HOW_PAIRED, *_dot_products(results)]
    for (configuration, isa), result in newest.items():
        labels = (*labels_of(configuration, titles), isa)
        here = configurations[configuration].get("accuracy")
        if result.failure:
            rows.append(Row(labels=labels, values={}, failures={"ended": result.failure}))
            notes.append(f"{configuration} under {isa}: {result.failure.kind}: {result.failure.reason}.")
        elif here and (found := agreement(here.result, result, raw, raw)):
            rows.append(paired_row(labels, found))
            if found.changed:
                notes.append(
                    f"{configuration} depends on the instructions: under {isa} {len(found.changed):,} of {found.images:,} labels "
                    "are others, so its accuracy here is not that of an older processor."
                )
    if not rows:
        return None
    columns = {**PAIRED, **({"ended": _ENDED} if any("ended" in row.failures for row in rows) else {})}
    return Section(
        title="INT8 under older instructions",
        label_titles=(*titles, "instructions"),
        columns=columns,
        rows=tuple(rows),
        notes=tuple(dict.fromkeys(notes)),
        part="quantisation",
    )


def heat(results: Sequence[Result], configurations: Configurations) -> Heat | None:
    """The accuracy change of each INT8 configuration under each level of instructions; None if none could be held to one."""
    rows: dict[str, dict[str, float | None]] = {}
    for result in results:
        configuration, trial = Configuration.of(result), result.job.trial
        if not isinstance(trial, UnderIsa) or not is_current(result, configurations):
            continue
        here = configurations[configuration].get("accuracy")
        if here and here.result.measurement and result.measurement:
            change, _, _ = difference_of_shares(here.result, result)
            label = f"{configuration.name} {configuration.variant}, {configuration.backend}"
            rows.setdefault(label, {})[trial.isa] = 100 * change
    if not rows:
        return None
    columns = tuple(dict.fromkeys(isa for of_one in rows.values() for isa in of_one))
    return Heat(
        part="quantisation",
        title="Accuracy change under older instructions, percentage points",
        corner="configuration",
        columns=columns,
        rows={label: tuple(of_one.get(isa) for isa in columns) for label, of_one in rows.items()},
        digits=2,
        notes=("Against this processor's own instructions.",),
    )


def _dot_products(results: Sequence[Result]) -> list[str]:
    has = results[-1].job.machine.has_int8_dot_products()
    if has is None:
        return []
    return [f"This processor has {'' if has else 'no '}instructions for INT8 dot products; these levels have none."]

"""INT8 under older instructions: whether the labels of this machine are those of another."""

from collections.abc import Sequence

from cifar_deploy.core.records import Result, UnderIsa
from cifar_deploy.core.table import Column, Row, Section
from cifar_deploy.metrics.summary import Configuration, Raw, agreement
from cifar_deploy.sections.accuracy import HOW_PAIRED, PAIRED, paired_row
from cifar_deploy.sections.common import Configurations, is_current, label_titles, labels_of

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
    )


def _dot_products(results: Sequence[Result]) -> list[str]:
    has = results[-1].job.machine.has_int8_dot_products()
    if has is None:
        return []
    return [f"This processor has {'' if has else 'no '}instructions for INT8 dot products; these levels have none."]

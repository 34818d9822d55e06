"""The Python API: each step of the pipeline as one call, its outcome stored before it is returned.

A step returns what it made, and whether that was already there. Nothing here imports torch.

    from cifar_deploy import pipeline

    data = pipeline.prepare("digits")
    with pipeline.Store("runs/notebook") as store:
        pipeline.train(store, data, "resnet8")
        for exported in pipeline.export(store, ["resnet8"]): ...
        for measured in pipeline.evaluate(store, pipeline.plan(store, ["resnet8"])): ...
        table, paths = pipeline.report(store)
        results = pipeline.frame(store)  # a pandas DataFrame
"""

from cifar_deploy.choice.choose import Choice, Constraints
from cifar_deploy.choice.limits import Limit
from cifar_deploy.core.outcome import Outcome
from cifar_deploy.core.packs import PackSettings
from cifar_deploy.core.profile import Profile
from cifar_deploy.core.store import Store
from cifar_deploy.datasets import Preparation
from cifar_deploy.stages.add import TrainedElsewhere, add
from cifar_deploy.stages.bench import Shape, Value, plan_external
from cifar_deploy.stages.choose import choices, choose
from cifar_deploy.stages.compare import Pair, compare
from cifar_deploy.stages.devices import DeviceSettings, Visited, measure_on
from cifar_deploy.stages.doctor import Diagnosis, Gap, Ready, catalogue, diagnose
from cifar_deploy.stages.environments import create_environment
from cifar_deploy.stages.evaluate import EvaluationSettings, evaluate
from cifar_deploy.stages.export import export
from cifar_deploy.stages.feeding import ImageOptions
from cifar_deploy.stages.importing import Imported, import_results
from cifar_deploy.stages.pack import Packed, pack
from cifar_deploy.stages.plan import Conditions, Planned, plan
from cifar_deploy.stages.predict import Predicted, predict
from cifar_deploy.stages.prepare import prepare
from cifar_deploy.stages.profile import profile
from cifar_deploy.stages.quickstart import shipped
from cifar_deploy.stages.report import frame, report
from cifar_deploy.stages.rounds import Sampling
from cifar_deploy.stages.track import track
from cifar_deploy.stages.train import Teaching, TrainingSettings, follow, train
from cifar_deploy.workers.catalogue import Entry
from cifar_deploy.workers.predict import Prediction
from cifar_deploy.workers.prepare import Prepared
from cifar_deploy.workers.track import Tracked

__all__ = [
    "Choice",
    "Conditions",
    "Constraints",
    "DeviceSettings",
    "Diagnosis",
    "Entry",
    "EvaluationSettings",
    "Gap",
    "ImageOptions",
    "Imported",
    "Limit",
    "Outcome",
    "PackSettings",
    "Packed",
    "Pair",
    "Planned",
    "Predicted",
    "Prediction",
    "Preparation",
    "Prepared",
    "Profile",
    "Ready",
    "Sampling",
    "Shape",
    "Store",
    "Teaching",
    "Tracked",
    "TrainedElsewhere",
    "TrainingSettings",
    "Value",
    "Visited",
    "add",
    "catalogue",
    "choices",
    "choose",
    "compare",
    "create_environment",
    "diagnose",
    "evaluate",
    "export",
    "follow",
    "frame",
    "import_results",
    "measure_on",
    "pack",
    "plan",
    "plan_external",
    "predict",
    "prepare",
    "profile",
    "report",
    "shipped",
    "track",
    "train",
]

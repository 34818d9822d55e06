"""ExecuTorch: its compiler, its quantiser (torchao) and its runtime, with the many packages that they bring."""

from cifar_deploy.core.environment import Environment

# A program for batches of any size holds no more in ExecuTorch 1.5, whatever the dimension's maximum.
MOST_IMAGES = 15

ENVIRONMENT = Environment(
    name="executorch",
    summary="ExecuTorch's compiler, quantiser and runtime",
    packages=("executorch==1.5.1", "torchao==0.18.0"),
    brings=("executorch", "torchao"),
)

"""Interpreters of their own for packages that cannot live together. A new one is one file here and one line below.

A format or backend names its environment as a value, and is served by the running interpreter where that has the
packages: an environment is a way out, never a duty.
"""

from cifar_deploy.core.environment import Environment
from cifar_deploy.core.registry import Registry

ENVIRONMENTS: Registry[Environment] = Registry(
    "environment", __name__, {"litert": "litert:ENVIRONMENT", "executorch": "executorch:ENVIRONMENT"}
)

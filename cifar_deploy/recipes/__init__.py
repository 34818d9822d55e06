"""How networks are trained. A new recipe is one file here and one line below; both networks always share one."""

from cifar_deploy.core.records import Recipe
from cifar_deploy.core.registry import Registry

RECIPES: Registry[Recipe] = Registry(
    "recipe", __name__, {"original": "original:RECIPE", "fast": "fast:RECIPE"}, former={"paper": "original"}
)

"""From a name to a plugin, imported on first use, and which packages it lacks here.

An entry is "module:OBJECT" inside the folder of its kind. A name that holds a colon itself is anyone's own plugin,
"their.module:OBJECT", looked for on the Python path and in the current folder: code, which is imported only if the user
has given its name (see core.trust). This is the one place where a name becomes an import. A kind may keep the names of
some libraries for itself: "library:NAME" is no object then, it stands in the library's list, and is nobody's code to trust.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import cifar_deploy
from cifar_deploy.core import interpreter, trust
from cifar_deploy.core.errors import Lack, Unavailable, UnknownName, UsageError, is_out_of_memory
from cifar_deploy.core.interpreter import Interpreter

if TYPE_CHECKING:
    from cifar_deploy.core.environment import Environment

T = TypeVar("T")

# By the import name, where the package has another.
_PACKAGES = {"PIL": "pillow", "sklearn": "scikit-learn"}
# By program, and whether this is macOS.
_INSTALLS = {("g++", False): "apt install g++", ("g++", True): "xcode-select --install"}


class Registry(Mapping[str, T], Generic[T]):
    """The plugins of one kind, in the order in which they are listed."""

    def __init__(
        self,
        kind: str,
        package: str,
        entries: Mapping[str, str],
        former: Mapping[str, str] | None = None,
        libraries: Collection[str] = (),
    ) -> None:
        """`former` are earlier names, understood where a user gives them. A name in one of `libraries` is the kind's to find."""
        self.kind = kind
        self.libraries = libraries
        self._entries = entries
        self._places: dict[str, tuple[str, str]] = {}  # module and attribute
        for name, entry in entries.items():
            module, _, attribute = entry.partition(":")
            self._places[name] = f"{package}.{module}", attribute
        self._former = former or {}

    def __getitem__(self, name: str) -> T:
        self.check(name)
        if ":" in name:
            return load_object(self.kind, name)  # type: ignore[no-any-return]
        path, attribute = self._places[name]
        # A report looks names up a million times, and import_module takes microseconds to find what is there.
        module = sys.modules.get(path) or importlib.import_module(path)
        return getattr(module, attribute)  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def check(self, name: str) -> str:
        """`name`, if it can be one of ours or is module:object; else UnknownName. Imports nothing."""
        if name in self._entries:  # as nearly always, and a report asks very often
            return name
        module, colon, attribute = name.partition(":")
        if module.endswith(".py") or (os.sep in module and os.path.exists(f"{module}.py")):
            stem = os.path.basename(module).removesuffix(".py")
            raise UnknownName(
                f"{name}: is a file, not a module; start where it lies, and write {stem}:{attribute or 'OBJECT'}"
            )
        if not colon:
            raise UnknownName.among(self.kind, name, self._entries, "; your own is named module:OBJECT")
        return name

    def given(self, name: str) -> str:
        """`name`, which the user gave, checked, as it is today; if it is module:object it may be imported from now on."""
        name = self.check(self._former.get(name, name))
        return name if self.is_of_library(name) else given(self.kind, name)

    def is_of_library(self, name: str) -> bool:
        """Whether it is "library:NAME"; nothing looks yet whether the library has it."""
        library, colon, _ = name.partition(":")
        return bool(colon) and library in self.libraries


def given(kind: str, name: str) -> str:
    """`name`, which this command was given: if it is a module:object it may be imported, by later commands too."""
    trust.give([name])
    if ":" in name and not _is_ours(name) and (place := _place(name)):
        trust.remember_code(name, place)
    return name


def load_object(kind: str, name: str) -> Any:
    """What "module:attribute" names. The current folder is searched too, as `python -m` does.

    Raises Untrusted, before anything is imported, for a name that only a record has given.
    """
    module_name, _, attribute = name.partition(":")
    trust.check_code(kind, name, _place(name))
    # Only now, and for the user's own code alone: what lies there may have the name of a module that others look for.
    if not _is_ours(name) and os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    if not attribute:
        raise UnknownName(f"{name}: names no object of module {module_name}; write module:OBJECT")
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # its own code runs: anything may come
        if is_out_of_memory(error):
            raise
        why, remedy = _not_imported(module_name, error)
        raise UsageError(
            f"{name}: module {module_name!r} of this {kind} cannot be imported ({why}); {remedy}"
        ) from error
    try:
        return getattr(module, attribute)
    except AttributeError:
        public = [word for word in vars(module) if not word.startswith("_")]
        file = getattr(module, "__file__", None) or ""
        # One of Python's own, or of a package, may have the name of the user's.
        lies = "" if file.startswith(os.getcwd()) else f" ({file or 'built in'})"
        raise UnknownName.among(f"object in module {module_name}{lies}", attribute, public or ["nothing"]) from None


def _not_imported(module: str, error: BaseException) -> tuple[str, str]:
    """The cause and the way out."""
    if isinstance(error, ValueError | TypeError) and (not module or module.startswith(".")):
        return str(error), "start where it lies, or set PYTHONPATH"
    if isinstance(error, ModuleNotFoundError):
        missing = error.name or ""
        if missing.partition(".")[0] == module.partition(".")[0]:  # the module itself, or another one of its package
            return str(error), "start where it lies, or set PYTHONPATH"
        if missing:
            return f"it imports {missing}, which is not here", f"install {missing}, or set PYTHONPATH"
    remedy = "run only what defines the object when it is imported" if isinstance(error, SystemExit) else "mend it"
    return f"{type(error).__name__}: {error}", remedy


def _is_ours(name: str) -> bool:
    return name.startswith(f"{cifar_deploy.__name__}.")


def _place(name: str) -> str:
    """Where the module of module:object lies, or the package that it is in; "" if nowhere. Nothing is imported."""
    top = name.partition(":")[0].partition(".")[0]
    try:
        found = (importlib.util.find_spec(top) or PathFinder.find_spec(top, [os.getcwd()])) if top else None
    except (ImportError, ValueError):
        found = None
    if found is None:
        return ""
    folders = found.submodule_search_locations
    return os.path.realpath(found.origin or (next(iter(folders), "") if folders else ""))


def missing(requires: Iterable[str], path: Sequence[str] | None = None) -> list[str]:
    """Those of the packages (by import name) that are not installed, here or in the folders of `path`. Nothing is imported."""
    if path is None:
        return [package for package in requires if importlib.util.find_spec(package) is None]
    return [package for package in requires if PathFinder.find_spec(package, path) is None]


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What a plugin needs that may not be here."""

    requires: tuple[str, ...] = ()  # import names
    programs: tuple[str, ...] = ()  # that must be on the path
    environment: Environment | None = None  # that has what it requires, where the running interpreter has not


def interpreter_for(plugin: Requirements) -> Interpreter:
    """What its workers are started with: this interpreter if it has all that the plugin requires, else its environment's.

    If neither has it, this one, whose worker will say what is missing.
    """
    environment = _environment_of(plugin)
    if environment and missing(plugin.requires) and not _missing_in(environment, plugin.requires):
        return environment.interpreter
    return interpreter.running()


def lack_of(plugin: Requirements) -> Lack | None:
    """Which packages and programs are not installed; None if all are here, or in the environment."""
    lacking, environment = missing(plugin.requires), _environment_of(plugin)
    if lacking and not environment:
        packages = (_PACKAGES.get(name, name.replace("_", "-")) for name in lacking)
        return Lack(reason=f"needs {', '.join(lacking)}", command=f"pip install {' '.join(packages)}")
    if lacking and environment and (why := _missing_in(environment, plugin.requires)):
        return why
    for program in plugin.programs:
        if not shutil.which(program):
            return Lack(reason=f"needs {program}", command=_INSTALLS[program, sys.platform == "darwin"])
    return None


def _environment_of(plugin: Requirements) -> Environment | None:
    """On a device nothing makes environments: what a runtime needs is there, or is installed by its owner."""
    from cifar_deploy.core import packs

    return None if packs.here() else plugin.environment


def _missing_in(environment: Environment, requires: Iterable[str]) -> Lack | None:
    if why := environment.lack():
        return why
    if lacking := missing(requires, environment.interpreter.path):
        reason = f"environment {environment.name} lacks {', '.join(lacking)}; add it to the environment's packages"
        return Lack(reason=reason, command=None)
    return None


def need(kind: str, name: str, plugin: Requirements) -> None:
    """Raises Unavailable, with what mends it, if something that this plugin needs is not installed."""
    if lack := lack_of(plugin):
        raise Unavailable(f"{kind} {name}: {lack}")

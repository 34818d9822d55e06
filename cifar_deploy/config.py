"""Options from a file: cifar-deploy.toml in the current folder, or the file that --config names.

    [evaluate]
    threads = [1, 2]
    budget = "10m"
    controls = false

    [env.create]
    name = "litert"

A table is a command. A key is the long name of an option without its dashes, or the name of an argument in small letters.
A value is what would be typed, and is parsed as that. The command line wins.

A file that is found may be somebody else's: see `_ONLY_IF_NAMED`.
"""

import contextlib
import functools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeAlias, get_args, get_origin

import typer

from cifar_deploy.core.errors import Corrupt, UsageError, few
from cifar_deploy.networks import NETWORKS

if TYPE_CHECKING:
    from cifar_deploy.core.records import ConfigFile

FOUND = Path("cifar-deploy.toml")

# What trusts a file, deletes results, writes or sends elsewhere, runs code on another device, or installs and removes
# packages. So does a name with a colon, which is code.
_ONLY_IF_NAMED = frozenset(
    (
        *("force", "foreign", "mlflow", "out", "to", "trust", "trust-code", "env.create.name", "env.remove.name"),
        *("host", "devices", "inventory", "pack", "python"),
    )
)

# Hundreds of options. The parser takes seconds for a longer key with thousands of dots.
_LARGEST_BYTES = 2**15
_LARGEST_INT_BITS = 63

# Of an address: https://user:password@host
_CREDENTIALS = re.compile(r"\w://[^/\s]*@")

# As typed: the texts of an option that is given several times, and whether a flag is given.
Typed: TypeAlias = str | bool | list[str]

_own = typer.Typer(add_completion=False)


@_own.command()
def _files(
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            metavar="FILE",
            help="Read options from this TOML file; what stands on the command line wins.",
            show_default=f"{FOUND}, if it is in the current folder",
        ),
    ] = None,
    no_config: Annotated[
        bool, typer.Option("--no-config", help=f"Leave {FOUND} of the current folder unread.")
    ] = False,
    save_config: Annotated[
        Path | None,
        typer.Option(
            "--save-config",
            metavar="FILE",
            help="Write the options that are in force to a new TOML file, too.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """The options that every command has."""


@functools.cache
def options() -> tuple[Any, ...]:
    """--config, --no-config and --save-config, as parameters of a command whose function does not take them."""
    parameters: tuple[Any, ...] = tuple(typer.main.get_command(_own).params)
    for parameter in parameters:
        parameter.expose_value = False
    return parameters


_OWN_KEYS = frozenset(("config", "no-config", "save-config"))


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A value that a file gives to an option or argument."""

    key: str
    option: str  # as a message names it: --threads, or NAME
    place: str  # likewise, in the file: sweep.toml, line 3: [evaluate] threads
    value: Typed


@dataclass(frozen=True, kw_only=True)
class Used:
    """What a command takes from a file. It may be nothing from one that --config names."""

    file: "ConfigFile"
    table: str
    entries: Mapping[str, Entry]  # by the name of the parameter

    def __str__(self) -> str:
        if not self.entries:
            return f"no options from {self.file.name}: it gives none for [{self.table}]"
        keys = ", ".join(entry.key for entry in self.entries.values())
        return f"options from {self.file.name}: [{self.table}] {keys}"


# Of the command that runs. A process runs one.
_used: Used | None = None
_file: "ConfigFile | None" = None


def used() -> Used | None:
    """What the command takes from a file, if there is one for it."""
    return _used


def file() -> "ConfigFile | None":
    """The file that holds the command's options: what --save-config wrote, else the file that some came from."""
    return _file


def gives(key: str) -> bool:
    """Whether the command takes this key from a file."""
    return _used is not None and any(entry.key == key for entry in _used.entries.values())


def take(context: Any, given: Mapping[str, Any]) -> dict[str, Typed]:
    """What the file says of the options that the command line does not give, by the name of the parameter.

    Every table and key of the file is checked, and the values of this command's table.

    Raises UsageError, with the line, for what no command line could say either; Corrupt if the file cannot be read.
    """
    global _used, _file
    _used = _file = None
    context.meta[__name__] = dict(given)  # for `save`
    named = given.get("config")
    if named and given.get("no_config"):
        raise UsageError("--config, --no-config: exclude each other; give one of them")
    if not named and (given.get("no_config") or not os.path.lexists(FOUND)):
        return {}
    document = _Document(Path(named or FOUND), _commands(context.find_root().command), is_found=not named)
    way = _way(context)
    entries = {name: entry for name, entry in document.entries(way).items() if name not in given}
    for entry in entries.values():
        document.check_trust(way, entry)
    if entries or named:
        _used = Used(file=document.record, table=".".join(way), entries=entries)
    if entries:
        _file = document.record
    values = {name: entry.value for name, entry in entries.items()}
    context.meta[__name__] |= values
    return values


@contextlib.contextmanager
def errors_placed() -> Iterator[None]:
    """A UsageError in the block that is over a value of the file names its place there instead of the option."""
    try:
        yield
    except UsageError as error:
        for entry in _used.entries.values() if _used else ():
            text, texts = str(error), entry.value if isinstance(entry.value, list) else [entry.value]
            if text.startswith(f"{entry.option}: "):
                text = text.removeprefix(f"{entry.option}: ")
            elif not any(text.startswith(f"{value}: ") for value in texts):
                continue
            error.args = (f"{entry.place}: {_as_in_a_file(text, entry)}",)
            break
        raise


def _as_in_a_file(text: str, entry: Entry) -> str:
    """A message that says what to type, as it is written in a file; but not a whole command in it."""
    typed = re.compile(rf"`[^`]*`|{re.escape(entry.option)} ([^\s;,]+)")
    return typed.sub(lambda found: f'{entry.key} = "{found[1]}"' if found[1] else found[0], text)


def save(context: Any) -> None:
    """Write what the command line and the file give to the new file that --save-config names, if it names one.

    A file that holds just this already stays. Raises UsageError if there is another one.
    """
    global _file
    given: dict[str, Any] = context.meta[__name__]
    if "save_config" not in given:
        return
    path = Path(given["save_config"])
    _check_name(path, "--save-config")
    from cifar_deploy.core import files, untrusted
    from cifar_deploy.core.records import ConfigFile

    content = _written(context, given)
    if os.path.lexists(path):
        try:
            is_same = untrusted.read_bytes(path, _LARGEST_BYTES) == content
        except (Corrupt, OSError):
            is_same = False
        if not is_same:
            raise UsageError(f"--save-config: {path} exists and holds something else; delete it, or give another name")
    else:
        with files.atomic_write(path) as part:
            part.write_bytes(content)
    _file = ConfigFile(name=path.name, sha256=_sha256(content))


def _written(context: Any, given: Mapping[str, Any]) -> bytes:
    """A file of the options that the command has been given, by the command line or by a file."""
    command = context.command
    lines = [f"# Options of `{context.command_path}`, for --config.", f"[{'.'.join(_way(context))}]"]
    keys = {parameter.name: key for key, parameter in reversed(command.keys.items())}
    for parameter in command.params:
        if parameter.expose_value and (value := given.get(parameter.name)) is not None:
            if _CREDENTIALS.search(str(value)):
                raise UsageError(
                    f"--save-config: the address of {named(parameter)} holds a user or a password, and would be kept in the file; "
                    "give them in variables of the environment, or leave --save-config out"
                )
            lines.append(f"{keys[parameter.name]} = {_toml(parameter, value)}")
    try:
        return "".join(f"{line}\n" for line in lines).encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            "--save-config: a value is not UTF-8, as a TOML file has to be; rename what it names, or leave this out"
        ) from error


def _toml(parameter: Any, value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_toml(parameter, item) for item in value)}]"
    if not _takes_text(parameter) and re.fullmatch(r"0|[1-9]\d{0,17}|(0|[1-9]\d{0,5})\.\d{0,8}[1-9]", value, re.ASCII):
        return str(value)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _way(context: Any) -> tuple[str, ...]:
    """The names of a command below the program's: ("env", "create")."""
    return (*_way(context.parent), context.info_name) if context.parent else ()


def _takes_text(parameter: Any, *kinds: type) -> bool:
    """Whether a value is a name or a path, or of these kinds. A number with a unit is neither."""
    descriptor = parameter.type_descriptor
    kind = get_args(descriptor.annotation)[0] if get_origin(descriptor.annotation) is list else descriptor.annotation
    return kind in (kinds or (str, Path)) and descriptor.parameter_info.parser is None


def _commands(group: Any, above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    """Every command, those of groups too, by its names below the program's."""
    found: dict[tuple[str, ...], Any] = {}
    for name, command in group.commands.items():
        way = (*above, name)
        found |= _commands(command, way) if hasattr(command, "commands") else {way: command}
    return found


class _Document:
    """A file of options: what it holds, and where."""

    def __init__(self, path: Path, commands: Mapping[tuple[str, ...], Any], is_found: bool) -> None:
        """Raises Corrupt if it cannot be read, UsageError if it is no TOML, or has a table or key that no command has."""
        from cifar_deploy.core.records import ConfigFile

        self._shown = str(path)
        self._is_found = is_found
        self._commands = commands
        self._otherwise = "add --no-config" if is_found else "give another"
        content = self._read(path)
        self.record = ConfigFile(name=path.name, sha256=_sha256(content))
        try:
            self._text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            what = f"byte {error.start + 1:,} is not UTF-8"
            raise UsageError(f"{path}: {what}; save it as UTF-8, or {self._otherwise}") from error
        self._tables = self._parsed()
        self._check_tables(self._tables)

    def _read(self, path: Path) -> bytes:
        from cifar_deploy.core import untrusted

        if not self._is_found:
            untrusted.check_named(path, "give a file of options", "--config")
        try:
            content = untrusted.read_bytes(path, _LARGEST_BYTES)
        except OSError as error:
            raise Corrupt(f"{path}: cannot be read ({error.strerror}); mend it, or {self._otherwise}") from error
        _check_name(path, "--config")
        return content

    def _parsed(self) -> dict[str, Any]:
        import tomllib

        try:
            return tomllib.loads(self._text)
        except RecursionError:
            raise UsageError(f"{self._shown}: is nested too deeply; mend it, or {self._otherwise}") from None
        except tomllib.TOMLDecodeError as error:
            what, _, place = str(error).rpartition(" (at ")
            what = "a key is there twice" if what == "Cannot overwrite a value" else what[:1].lower() + what[1:]
            raise UsageError(
                f"{self._shown}, {place.rstrip(')')}: is not TOML ({what}); mend it, or {self._otherwise}"
            ) from error
        except ValueError as error:  # of int(), for thousands of digits
            raise UsageError(f"{self._shown}: holds too long a number; mend it, or {self._otherwise}") from error

    def _check_tables(self, found: Mapping[str, Any], above: tuple[str, ...] = ()) -> None:
        for name, value in found.items():
            way = (*above, name)
            is_command = way in self._commands
            if not is_command and not any(each[: len(way)] == way for each in self._commands):
                self._refuse_table(way, value)
            if not isinstance(value, dict):
                raise UsageError(
                    f"{self._place(way, value)}: is {_kind(value)}; write [{'.'.join(way)}] above its options"
                )
            if is_command:
                self._check_keys(way, value)
            else:
                self._check_tables(value, way)

    def _refuse_table(self, way: tuple[str, ...], value: Any) -> NoReturn:
        place = self._place(way, value)
        if not isinstance(value, dict) and (owners := self._owners(way[-1])):
            raise UsageError(f"{place}: belongs to {owners}; write it below that")
        *above, name = way
        beside = [each[len(above)] for each in self._commands if list(each[: len(above)]) == above]
        near = _meant(name, beside)
        tables = [f"[{'.'.join((*above, each))}]" for each in ([near] if near else dict.fromkeys(beside))]
        hint = f"did you mean {tables[0]}?" if near else f"there are: {few(tables)}"
        raise UsageError(f"{place}: no command has this name; {hint}")

    def _check_keys(self, way: tuple[str, ...], table: Mapping[str, Any]) -> None:
        command, line = self._commands[way], f"cifar-deploy {' '.join(way)}"
        for key, value in table.items():
            if key in command.keys:
                continue
            place = self._place((*way, key), value)
            if key in _OWN_KEYS:
                raise UsageError(f"{place}: stands on the command line alone; remove it here")
            if owners := self._owners(key):
                raise UsageError(f"{place}: belongs to {owners}, and is no option of `{line}`; move it there")
            near = _meant(key, command.keys)
            hint = f"did you mean {near}? See" if near else "see"
            raise UsageError(f"{place}: no option of `{line}` has this name; {hint} `{line} --help`")

    def _owners(self, key: str) -> str:
        """The tables that have such a key."""
        return few([f"[{'.'.join(way)}]" for way, command in self._commands.items() if key in command.keys])

    def entries(self, way: tuple[str, ...]) -> dict[str, Entry]:
        """What the table of a command gives, by the name of the parameter. Raises UsageError for a wrong type."""
        line = f"cifar-deploy {' '.join(way)}"
        found: dict[str, Entry] = {}
        table: Any = self._tables
        for name in way:
            table = table.get(name, {})
        for key, value in table.items():
            parameter = self._commands[way].keys[key]
            place = self._place((*way, key), value)
            typed = _typed(parameter, key, value, place, f"see `{line} --help`")
            if parameter.name in found:
                raise UsageError(f"{place}: is {found[parameter.name].key} again; keep one of them")
            found[parameter.name] = Entry(key=key, option=named(parameter), place=place, value=typed)
        return found

    def check_trust(self, way: tuple[str, ...], entry: Entry) -> None:
        """Raises UsageError for what a file that is only found cannot give."""
        if not self._is_found or entry.value is False:
            return
        texts = entry.value if isinstance(entry.value, list) else [entry.value]
        parameter = self._commands[way].keys[entry.key]
        if {entry.key, ".".join((*way, entry.key))} & _ONLY_IF_NAMED:
            what = "may not be given by a file that is only found"
        elif _takes_text(parameter, str) and any(_is_code(parameter, str(text)) for text in texts):
            what = "names code, and stands in a file that is only found"
        else:
            return
        raise UsageError(f"{entry.place}: {what}; type it, or add --config {self._shown}")

    def _place(self, way: tuple[str, ...], value: Any) -> str:
        """File, line, table and key, for a message."""
        line = _line(self._text, way)
        where = f"{self._shown}, line {line}" if line else self._shown
        *tables, key = way
        if isinstance(value, dict):
            return f"{where}: [{'.'.join(way)}]"
        return f"{where}: [{'.'.join(tables)}] {key}" if tables else f"{where}: {key}"


def _is_code(parameter: Any, text: str) -> bool:
    """Whether a value names code (module:object). A library's network, such as torchvision:resnet18, is no code."""
    return ":" in text and not (parameter.name == "network" and NETWORKS.is_of_library(text))


# A table's header, and what stands before the equals sign of a value.
_HEADER = re.compile(r"\s*\[{1,2}([^]]*)\]")
_KEY = re.compile(r"\s*([^=#\[]+)=")


def _line(text: str, way: tuple[str, ...]) -> int | None:
    """The line on which a table or a key begins, counted from 1. None if it is not to be seen at a line's start."""
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.split("\n"), start=1):
        if header := _HEADER.match(line):
            found = table = _names(header[1])
        elif key := _KEY.match(line):
            found = (*table, *_names(key[1]))
        else:
            continue
        if found[: len(way)] == way:
            return number
    return None


def _names(dotted: str) -> tuple[str, ...]:
    return tuple(name.strip(" \t\"'") for name in dotted.split("."))


def _typed(parameter: Any, key: str, value: Any, place: str, remedy: str) -> Typed:
    """A value as it would be typed."""

    def refuse(what: str) -> NoReturn:
        raise UsageError(f"{place}: {what}; {remedy}")

    def text(item: Any) -> str:
        if isinstance(item, str):
            if not item or "\0" in item:
                refuse("holds a NUL character" if item else "is empty")
            return item
        if isinstance(item, bool) or not isinstance(item, (int, float)):
            refuse(
                f"is {_kind(item)}, and {named(parameter)} takes one value{' or a list of them' if is_several else ''}"
            )
        if _takes_text(parameter):
            refuse(f"is a number, and {named(parameter)} takes text; write it in quotes")
        if isinstance(item, int) and item.bit_length() > _LARGEST_INT_BITS:
            refuse("is too large a number")
        return str(item)

    if getattr(parameter, "is_flag", False):
        if not isinstance(value, bool):
            refuse(f"is {_kind(value)}, and {named(parameter)} takes true or false")
        return value is not (f"--{key}" in parameter.secondary_opts)
    is_several = getattr(parameter, "multiple", False) or parameter.nargs != 1
    if not is_several:
        return text(value)
    if value == []:
        refuse("is empty")
    return [text(item) for item in value] if isinstance(value, list) else [text(value)]


def _kind(value: Any) -> str:
    """What a value of TOML is, in words."""
    if isinstance(value, bool):
        return str(value).lower()
    kinds = {dict: "a table", list: "a list", str: "text", int: "a number", float: "a number"}
    return kinds.get(type(value), "a date or time")


def _meant(name: str, known: Iterable[str]) -> str:
    """The name that is nearest, or ""."""
    return next(iter(get_close_matches(name, known, n=1)), "")


def _check_name(path: Path, option: str) -> None:
    from cifar_deploy.core.records import FileName

    if fault := FileName().fault(path.name):
        raise UsageError(f"{option}: {few([path])}: {fault}; give another")


def _sha256(content: bytes) -> str:
    import hashlib

    return hashlib.sha256(content).hexdigest()


def named(parameter: Any) -> str:
    """A parameter as a message names it: its long option of today, or its name as an argument."""
    return next((name for name in parameter.opts if name.startswith("--")), str(parameter.metavar or parameter.name))

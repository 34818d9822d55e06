"""How a command line is read, explained and refused, where typer leaves that open.

Help is plain text: a square bracket is no markup, nothing is cut, and no line is longer than the terminal is wide.
A refusal is one line: the option or argument, what is wrong with it, and the help of the command that it was given to.
"""

import contextlib
import os
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from difflib import get_close_matches
from functools import cached_property
from typing import Any, TypeVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.exceptions import TyperException

from cifar_deploy import config, process
from cifar_deploy.config import named
from cifar_deploy.core.errors import DeployError, UsageError, one_line

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Former names of options, understood for one more version and shown nowhere.
_FORMER = {
    "--again": "--force",
    "--half": "--save-fp16",
    "--isa": "--max-isa",
    "--precision": "--target-interval",
    "--sustain": "--soak",
    "--unlike": "--allow-mismatch",
}
# Former flags, with the option and the value that replace them.
_REPLACED = {"--bf16": "--arithmetic bfloat16"}


def today(argument: str) -> str:
    """A former name of an option as its name of today; any other argument as it is."""
    name, equals, value = argument.partition("=")
    return f"{_FORMER.get(name, name)}{equals}{value}"


# Of each command, too: typer keeps the help option of its first context, which need not be inside that of the program.
_HELP = {"help_option_names": ["-h", "--help"]}


class App(typer.Typer):
    """Its groups are Groups, its commands Commands."""

    def __init__(self, *, help: str) -> None:
        super().__init__(
            help=help,
            cls=Group,
            rich_markup_mode=None,
            pretty_exceptions_enable=False,
            context_settings=_HELP,
        )

    def command(self, name: str | None = None, **how: Any) -> Callable[[_Function], _Function]:
        return super().command(name, cls=Command, context_settings=_HELP, **how)


class _Explained:
    """The help of a command or group, in full sentences and whole words.

    It is printed as all else is: a character that stdout's encoding lacks becomes its escape. typer would print UTF-8.
    """

    help: str | None

    def get_help_option(self, ctx: Any) -> Any:
        option = super().get_help_option(ctx)  # type: ignore[misc]
        if option:
            option.callback = _print_help
        return option

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        for paragraph in (self.help or "").split("\n\n"):
            formatter.write(f"\n{textwrap.indent(_wrapped(paragraph, formatter.width - 2), '  ')}\n")

    def format_options(self, ctx: Any, formatter: Any) -> None:
        for title, rows in self.explained(ctx).items():
            _write(formatter, title, rows)

    def explained(self, ctx: Any) -> dict[str, list[tuple[str, str]]]:
        """Arguments, options and commands: how each is written, and what it is."""
        shown = [parameter for parameter in self.get_params(ctx) if not parameter.hidden]  # type: ignore[attr-defined]
        arguments = [parameter for parameter in shown if parameter.param_type_name == "argument"]
        options = [parameter for parameter in shown if parameter.param_type_name == "option"]
        commands = getattr(self, "commands", {})
        return {
            "Arguments": [(_argument(one), _explanation(one, ctx)) for one in arguments],
            "Options": [(_option(one, ctx), _explanation(one, ctx)) for one in options],
            "Commands": [(name, commands[name].get_short_help_str(10_000)) for name in commands],
        }


class Command(_Explained, TyperCommand):
    """A command that takes options from a file, too (see config).

    It refuses an empty value, a second value of an option that takes one, and a folder that is gone.
    """

    def __init__(self, name: str | None, **how: Any) -> None:
        super().__init__(name, **how)
        for parameter in self.params:
            parameter.opts += [former for former, name in _FORMER.items() if name in parameter.opts]
        self.params = [*self.params, *config.options()]

    @cached_property
    def keys(self) -> dict[str, Any]:
        """The options and arguments that a file can give, by their names there."""
        found = {}
        for parameter in self.params:
            if parameter.param_type_name == "argument":
                found[named(parameter).lower()] = parameter
            elif parameter.expose_value:
                names = [*parameter.opts, *parameter.secondary_opts]
                found |= {name[2:]: parameter for name in names if name.startswith("--") and name not in _FORMER}
        return found

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:  # of shell completion
            return super().parse_args(ctx, args)
        with config.errors_placed(), _refusals(ctx):
            given = _given(ctx, args)
            if not given.get("help"):
                ctx.default_map = config.take(ctx, given)
                _check_required(ctx, given.keys() | ctx.default_map.keys())
            return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        try:
            os.getcwd()
        except OSError as error:
            raise DeployError(f"working directory: is gone ({error.strerror}); change to another one") from error
        from cifar_deploy.core import ranks

        if ranks.rank() == 0:
            if used := config.used():
                process.complain(one_line(f"cifar-deploy: {used}"))
            config.save(ctx)
        with config.errors_placed():
            return super().invoke(ctx)

    def shell_complete(self, ctx: Any, incomplete: str) -> list[Any]:
        return [item for item in super().shell_complete(ctx, incomplete) if item.value not in _FORMER]


class Group(_Explained, TyperGroup):
    """Commands under one name. Without one of them it prints its help, and is a command line that is wrong."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not ctx.resilient_parsing and not [arg for arg in args if arg != "--"]:
            print(ctx.get_help())
            raise UsageError(f"{ctx.command_path}: lacks a command; give one of {', '.join(self.commands)}")
        with _refusals(ctx):
            return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[Any, Any, list[str]]:
        name = args[0]
        if name not in self.commands and not ctx.resilient_parsing:
            raise UsageError(f"{name or 'command'}: no command has this name; {_or_help(name, self.commands, ctx)}")
        return super().resolve_command(ctx, args)


def _print_help(ctx: Any, parameter: Any, is_asked: bool) -> None:
    if is_asked and not ctx.resilient_parsing:
        print(ctx.get_help())
        raise typer.Exit


def _wrapped(text: str, width: int) -> str:
    """Broken between words alone, and not within brackets: an option or a default can be found and copied."""
    text = re.sub(r"\[[^]]*\]", lambda found: found[0].replace(" ", "\0") if len(found[0]) <= width else found[0], text)
    text = textwrap.fill(" ".join(text.split()), width, break_on_hyphens=False, break_long_words=False)
    return text.replace("\0", " ")


def _write(formatter: Any, title: str, rows: Sequence[tuple[str, str]]) -> None:
    """A list of names and what each is. A name that is long has a line of its own."""
    if not rows:
        return
    left = 2 + min(max(len(name) for name, _ in rows), formatter.width // 3) + 2
    with formatter.section(title):
        for name, text in rows:
            shown = textwrap.indent(_wrapped(text, formatter.width - left), " " * left)
            beside = f"  {name}  "
            formatter.write(
                beside.ljust(left) + shown[left:] + "\n" if len(beside) <= left else f"{beside.rstrip()}\n{shown}\n"
            )


def _argument(parameter: Any) -> str:
    return f"{named(parameter)}{'...' if parameter.nargs != 1 else ''}"


def _option(parameter: Any, context: Any) -> str:
    """All its names of today, the short one first, and what kind of value it takes."""
    names = ", ".join(sorted((name for name in parameter.opts if name not in _FORMER), key=len))
    if parameter.is_flag:
        return " / ".join([names, *parameter.secondary_opts])
    return f"{names} {parameter.display_type_rich(context)}"


def _explanation(parameter: Any, context: Any) -> str:
    """What it does, its default and its limits."""
    _, text = parameter.get_help_record(context)
    return str(text).replace(f"default: ({parameter.show_default})", f"default: {parameter.show_default}")


@contextlib.contextmanager
def _refusals(context: Any) -> Iterator[None]:
    """What typer refuses in the block is raised as UsageError, in our words."""
    try:
        yield
    except TyperException as error:
        raise UsageError(_told(error, context)) from error


def _told(error: TyperException, context: Any) -> str:
    """typer tells either the parameter, of which the value is wrong, or the name of an option, as it was given."""
    if parameter := getattr(error, "param", None):
        return f"{named(parameter)}: {_fault(error)}; {_see(context)}"
    given = str(getattr(error, "option_name", ""))
    options = _options(context)
    if not given:
        return f"{context.command_path}: {error.format_message().rstrip('.')}; {_see(context)}"
    if given not in options and any(given in option.opts for option in config.options()):
        return f"{given}: belongs behind the command; write `{context.command_path} COMMAND {given}`"
    if (replaced := _REPLACED.get(given)) and replaced.split()[0] in options:
        return f"{given}: has another name now; give {replaced}"
    if given not in options:
        return f"{given}: no option of `{context.command_path}` has this name; {_or_help(given, options, context)}"
    fault = "takes no value" if options[given].is_flag else "needs a value"
    return f"{named(options[given])}: {fault}; {_see(context)}"


_FAULTS = {
    "float_parsing": "{input} is no number",
    "greater_than_equal": "{input} is not {ge} or more",
    "int_parsing": "{input} is no whole number",
    "less_than_equal": "{input} is not {le} or less",
}


def _fault(error: Any) -> str:
    """What is wrong with a value. Pydantic, which has read it, tells more than its message."""
    cause: Any = error.__cause__
    if hasattr(cause, "errors"):
        (fault,) = cause.errors()
        if words := _FAULTS.get(fault["type"]):
            return words.format(input=fault["input"], **fault.get("ctx", {}))
    return str(error.message).removeprefix("Value error, ").rstrip(".")


def _see(context: Any) -> str:
    return f"see `{context.command_path} --help`"


def _or_help(given: str, known: Iterable[str], context: Any) -> str:
    """The name that was meant, as it seems, and where all names are."""
    by_letters = {name.lstrip("-"): name for name in known if name not in _FORMER}
    letters = given.lstrip("-")
    near = [name for name in by_letters if len(letters) > 1 and name.startswith(letters)]
    near += get_close_matches(letters, by_letters, n=1)
    return f"did you mean {by_letters[near[0]]}? {_see(context).capitalize()}" if near else _see(context)


def _options(context: Any) -> dict[str, Any]:
    """The options of a command, by every name."""
    options = [one for one in context.command.get_params(context) if one.param_type_name == "option"]
    return {name: one for one in options for name in (*one.opts, *one.secondary_opts)}


def _given(context: Any, args: Sequence[str]) -> dict[str, Any]:
    """What a command line gives, as it is typed, by the name of the parameter.

    Raises UsageError for what typer would take for something else than was meant.
    """
    options = _options(context)
    for arg in args[: args.index("--")] if "--" in args else args:
        if not arg.startswith("--") and len(arg) > 2 and f"-{arg.partition('=')[0]}" in options:
            raise UsageError(f"{arg}: has one dash; write -{arg}")
    given, extra, order = context.command.make_parser(context).parse_args(list(args))
    given = {name: value for name, value in given.items() if value is not None}
    if given.get("help"):
        return given
    for parameter in context.command.params:
        values = given.get(parameter.name)
        values = values if isinstance(values, list | tuple) else [values]
        if "" in values:
            raise UsageError(f"{named(parameter)}: is empty; give a value or leave it out")
        if parameter.param_type_name == "option" and (taken := [one for one in values if one in options]):
            raise UsageError(f"{named(parameter)}: needs a value, and {taken[0]} is an option; {_see(context)}")
    if extra:
        raise UsageError(f"{extra[0]}: is one argument too many; {_see(context)}")
    for parameter, count in Counter(order).items():
        is_flag = getattr(parameter, "is_flag", False) and not parameter.secondary_opts
        if count > 1 and not is_flag and not getattr(parameter, "multiple", False):
            raise UsageError(f"{named(parameter)}: was given {count} times; give it once")
    return given


def _check_required(context: Any, given: Container[str]) -> None:
    for parameter in context.command.params:
        if parameter.required and parameter.name not in given:
            raise UsageError(f"{named(parameter)}: is missing; {_see(context)}")

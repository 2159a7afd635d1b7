"""`--install-completion`: the Tab key completes commands, options and their values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter

from .. import display
from ..files import append, write_whole
from ..running.usage import UsageError

_PROGRAM = "xptrainer"  # `python -m trainer` is completed by no shell
_SHELLS = ("bash", "zsh", "fish")


def command(app: App) -> Callable[..., int]:
    """Return the command that installs the completion of an app's commands."""

    def run(
        shell: Annotated[str | None, Parameter("SHELL", choices=_SHELLS)] = None,
        /,
    ) -> int:
        """Make the Tab key complete what is typed after xptrainer, in bash, zsh or fish.

        Parameters
        ----------
        shell
            Which one. [default: the one that this is typed in]
        """
        from cyclopts.completion.install import get_default_completion_path

        known: Any = shell or _this_shell()
        script = app.generate_completion(prog_name=_PROGRAM, shell=known)
        if known == "bash":  # whose own way with files knows folders and spaces
            script = script.replace('COMPREPLY=( $(compgen -f -- "${cur}") )', "COMPREPLY=()")
            script += f"\ncomplete -o default -F _{_PROGRAM} {_PROGRAM}\n"
        file = get_default_completion_path(known, _PROGRAM)
        write_whole(file, script.encode())
        display.line(f"completion for {known}: {file}")
        startup = _load_at_start(known, file)
        if startup is not None:
            display.line(f"loaded by: {startup}")
        display.line(f"open a new {known}, and type: {_PROGRAM} tr, and the Tab key")
        return 0

    return run


def _this_shell() -> str:
    from cyclopts.completion import ShellDetectionError, detect_shell

    try:
        shell = detect_shell()
    except ShellDetectionError:
        shell = None
    if shell not in _SHELLS:
        raise UsageError(
            f"which shell this is cannot be told; type: {_PROGRAM} --install-completion bash (or"
            " zsh, or fish)"
        )
    return shell


def _load_at_start(shell: str, file: Path) -> Path | None:
    """Make a shell's startup file load a script, and return that file, unless none is needed."""
    if shell == "fish":
        return None
    lines = [f"# completion of {_PROGRAM}", f'[ -f "{file}" ] && . "{file}"']
    if shell == "zsh":
        lines[1] = f'fpath=("{file.parent}" $fpath)'
        lines.append("(( $+functions[compdef] )) || { autoload -Uz compinit && compinit }")
        lines.append(f"autoload -Uz {file.name} && compdef {file.name} {_PROGRAM}")
    startup = Path.home() / f".{shell}rc"
    before = startup.read_bytes() if startup.exists() else b""
    if lines[-1].encode() not in before:
        end = "\n" if before and not before.endswith(b"\n") else ""
        append(startup, "\n".join([end + lines[0], *lines[1:], ""]).encode())
    return startup

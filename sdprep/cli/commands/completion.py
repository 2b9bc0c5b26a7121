"""`sdprep completion` and `sdprep help`."""

from __future__ import annotations

import os

import click
from click.shell_completion import CompletionItem, ShellComplete, add_completion_class, get_completion_class

from sdprep.cli import options as shared

SHELLS = ("bash", "zsh", "fish", "powershell")
POWERSHELL = """\
Register-ArgumentCompleter -Native -CommandName %(prog_name)s -ScriptBlock {
    param($wordToComplete, $commandAst, $cursorPosition)
    $words = @($commandAst.CommandElements | ForEach-Object { $_.ToString() })
    if ($wordToComplete -eq '') { $words += '' }
    $env:%(complete_var)s = 'powershell_complete'
    $env:COMP_WORDS = $words -join "`n"
    try {
        %(prog_name)s | ForEach-Object {
            $type, $value, $help = $_ -split '\\|', 3
            if ($type -eq 'plain') {
                [System.Management.Automation.CompletionResult]::new($value, $value, 'ParameterValue', $help)
            }
        }
    } finally {
        Remove-Item Env:%(complete_var)s, Env:COMP_WORDS
    }
}
"""


@add_completion_class
class PowerShellComplete(ShellComplete):
    """Completion for PowerShell, which click does not have; `COMP_WORDS` has one word per line."""

    name = "powershell"
    source_template = POWERSHELL

    def get_completion_args(self) -> tuple[list[str], str]:
        """The words before the one that is completed, and the beginning of that one."""
        words = os.environ["COMP_WORDS"].split("\n")[1:]
        return words[:-1], words[-1] if words else ""

    def format_completion(self, item: CompletionItem) -> str:
        """A line with the kind, the value and the help of a completion."""
        return f"{item.type}|{item.value}|{item.help or item.value}"


@click.command(
    cls=shared.Command, example='eval "$(sdprep completion bash)"', short_help="Print the completion script of a shell."
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print a script with which SHELL completes commands and options of sdprep.

    Put the line that runs it into the startup file of the shell:

    \b
    ~/.bashrc                   eval "$(sdprep completion bash)"
    ~/.zshrc, after compinit    eval "$(sdprep completion zsh)"
    ~/.config/fish/config.fish  sdprep completion fish | source
    $PROFILE of PowerShell      sdprep completion powershell | Out-String | Invoke-Expression
    """
    found = get_completion_class(shell)
    if found is None:
        raise AssertionError(f"click knows no completion for {shell}")
    script = found(ctx.find_root().command, {}, "sdprep", "_SDPREP_COMPLETE").source()
    click.echo(script)


@click.command("help", cls=shared.Command, example="sdprep help tag", short_help="Show the help of a command.")
@click.argument("words", metavar="[COMMAND]...", nargs=-1)
@click.pass_context
def show_help(ctx: click.Context, words: tuple[str, ...]) -> None:
    """Show the help of a command, as `sdprep COMMAND --help` does; without a command, that of sdprep."""
    root = ctx.find_root()
    command: click.Command | None = root.command
    for number, word in enumerate(words):
        if not isinstance(command, click.Group):
            raise click.UsageError(f"there is no command {word!r} below {' '.join(words[:number])}", ctx)
        _, command, _ = command.resolve_command(ctx, [word])
    arguments = [*words, "--help"]
    root.command.main(arguments, prog_name=root.info_name, parent=None, standalone_mode=False)

"""The commands of the command line, those inside a group by both words."""

import click

from sdprep.cli.main import cli


def leaves(group=cli, prefix=""):
    """Every command by the words that call it."""
    found = {}
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found.update(leaves(command, f"{prefix}{name} "))
        else:
            found[prefix + name] = command
    return found


COMMANDS = leaves()

"""The commands of the command line, those inside a group by both words."""

from scripts.cli_page import commands

COMMANDS = commands()

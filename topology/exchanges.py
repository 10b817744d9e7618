"""The names of the exchanges that all lanes share."""

COMMANDS = "commands"
"""Every task is published here. No alternate exchange: a command that reaches no queue must come back."""

DEAD_LETTERS = "dead-letters"
"""Every rejected task passes here, on its way to the dead-letter queue of its lane."""

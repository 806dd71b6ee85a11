"""The command's subcommands: options and exit codes. What they do is in the rooms below."""

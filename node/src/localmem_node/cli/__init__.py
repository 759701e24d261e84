"""The command line: `localmem`. Each command is a module, imported only when it is called."""

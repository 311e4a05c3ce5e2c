"""The command line: one command a file in ``commands``, found there by name."""

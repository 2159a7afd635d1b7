"""The commands, a module each: its options and its function `run`, which returns an exit code."""

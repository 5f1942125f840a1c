"""The command line: verbs and exit codes; no logic."""

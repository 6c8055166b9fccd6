"""The command line: one file a subcommand, which parses, calls one verb, and prints."""

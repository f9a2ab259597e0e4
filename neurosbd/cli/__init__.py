"""The command line: its arguments, its verbs, the catalogue of what there is."""

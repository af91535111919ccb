"""The verbs of the command line, one file each: `add` declares the options, `run` calls the library."""

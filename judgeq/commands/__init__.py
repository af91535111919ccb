"""The subcommands of `judgeq`, one file each: `add` declares the options, `run` calls the library."""

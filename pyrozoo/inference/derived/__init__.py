"""Methods derived from a program's complete conditionals: a file each, for every program without a hand-built one."""

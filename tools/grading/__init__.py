"""Grade notebooks in a sandbox: outside the package, since only instructors need it."""

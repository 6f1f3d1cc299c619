"""Break everything around a study while it runs, and count what is there afterwards. See ``python -m chaos --help``."""

"""``python -m welltuned``: the command line, where its script is not on the path."""

from welltuned.cli import main

if __name__ == "__main__":
    main()

"""``welltuned serve`` with a clock to put wrong: ``python -m chaos.serve CLOCK STORAGE --port … --token …``."""

from __future__ import annotations

import sys
from pathlib import Path

from chaos import clock
from chaos.ending import end_with_parent
from welltuned.cli import main

if __name__ == "__main__":
    end_with_parent()
    clock.follow(Path(sys.argv.pop(1)))
    sys.argv[:1] = ["welltuned", "serve"]
    main()

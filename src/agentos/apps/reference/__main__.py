"""Write the generated pages."""

from __future__ import annotations

import sys
from pathlib import Path

from agentos.apps.reference import pages


def main() -> None:
    """Write every page into the folder that is given."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text, encoding="utf-8")
        print(folder / name)


if __name__ == "__main__":
    main()

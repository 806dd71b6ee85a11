"""A folder of one's own, for an installed package: what is written there before the first sync.

In a checkout these files are at the root already; what is in them is for Dagster and `settings`.
"""

import sysconfig
from pathlib import Path

from incident_assets.warehouse.private import make_private_folder

# What each is written as; the example has no key in it, what is made of it will.
FILES = {".env.example": ".env", "dagster.yaml": "dagster.yaml", "workspace.yaml": "workspace.yaml"}


def write_files(folder: Path) -> dict[str, bool]:
    """Write settings and Dagster's two files into a folder; return the names, and which are new.

    What is there already stays. The folder is made for its owner alone where there is none, and
    `.env`, which is to hold a key, too. Raises OSError where it cannot be written.
    """
    source = _find_source()
    make_private_folder(folder)
    return {name: _write(folder / name, source / example) for example, name in FILES.items()}


def _write(target: Path, source: Path) -> bool:
    text = source.read_bytes()
    try:
        target.touch(mode=0o600, exist_ok=False)
    except FileExistsError:
        return False
    target.write_bytes(text)
    return True


def _find_source() -> Path:
    installed = Path(sysconfig.get_path("data")) / "share" / "incident_assets"
    return installed if installed.is_dir() else Path(__file__).parents[1]

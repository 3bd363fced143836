"""The configs that come with lorabench, by name: `-c study` is configs/study.yaml of the repository.

find(Path("methods"))      # the file of that name in this folder, or else the config that comes with lorabench
"""

from __future__ import annotations

import difflib
from pathlib import Path

from lorabench.errors import InputError

_FOLDER = ("share", "lorabench", "configs")
"""Where a wheel puts them, below the environment that it is installed in: `data-files` of pyproject.toml."""


def packaged() -> dict[str, Path]:
    """Name -> file: those of the checkout that this file belongs to, or else the installed ones."""
    checkout = Path(__file__).parents[2]
    if (checkout / "pyproject.toml").is_file():
        paths = list((checkout / "configs").glob("*.yaml"))
    else:
        from importlib.metadata import PackageNotFoundError, distribution  # imported late: completion waits for it

        try:
            files = distribution("lorabench").files or []
        except PackageNotFoundError:
            files = []
        paths = [Path(str(file.locate())).resolve() for file in files if file.parts[-4:-1] == _FOLDER]
    return {path.stem: path for path in sorted(paths)}


def find(path: Path) -> Path:
    """`path` itself if there is such a file, or else the config of that name that comes with lorabench.

    Raises:
        InputError: there is neither.
    """
    if path.exists() or path.suffix or len(path.parts) > 1:
        return path
    known = packaged()
    if path.name in known:
        return known[path.name]
    near = difflib.get_close_matches(path.name, known, n=1)
    meant = f'; did you mean "{near[0]}"?' if near else f"; there are {', '.join(known)}"
    raise InputError(f"{path}: no such file, and no config of that name comes with lorabench{meant}")

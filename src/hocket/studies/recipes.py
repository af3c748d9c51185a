"""The recipes that come with hocket."""

from __future__ import annotations

from pathlib import Path

import hocket
from hocket.core.errors import UsageError


def shipped(name: str) -> Path:
    """Path of ``NAME.yaml``: beside the modules where hocket is installed, at the root of a checkout.

    Raises :class:`UsageError` naming the recipes there are.
    """
    package = Path(hocket.__file__).parent
    folders = [folder for folder in (package / "recipes", package.parents[1] / "recipes") if folder.is_dir()]
    for folder in folders:
        if (folder / f"{name}.yaml").is_file():
            return folder / f"{name}.yaml"
    known = sorted({path.stem for folder in folders for path in folder.glob("*.yaml")})
    raise UsageError(f"recipe {name!r}: not known", f"Known: {', '.join(known) or 'none'}.")

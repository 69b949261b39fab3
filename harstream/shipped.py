"""The bundles that come with harstream: where they are, and which one is the default."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from harstream.errors import BundleError

DEFAULT_MODEL = "phone"
#: Model made for what `harstream simulate` publishes: devices at the waist, with a gyroscope.
SIMULATED_MODEL = "waist"


def folders() -> list[Path]:
    """Return the folders of the bundles that come with harstream, the default first."""
    package = Path(__file__).resolve().parent
    # A wheel has the models inside the package, a checkout beside it.
    for models in (package / "models", package.parent / "models"):
        folders = [path.parent for path in models.glob("*/bundle.json")]
        if folders:
            return sorted(folders, key=lambda path: (path.name != DEFAULT_MODEL, path.name))
    return []


def find(model: str) -> Path:
    """Return the folder of a bundle, given the name of a shipped one or the folder itself (``--model NAME|DIR``).

    Raises:
        BundleError: There is no such bundle.

    """
    names = {path.name: path for path in folders()}
    if model in names:
        return names[model]
    with suppress(OSError):  # no permission to look into the folder
        if (Path(model) / "bundle.json").is_file():
            return Path(model)
    shipped_names = ", ".join(names) or "none is installed"
    raise BundleError(f"model {model!r}: neither a folder with a bundle.json nor a shipped model ({shipped_names})")

"""sdprep prepares images for Stable Diffusion fine-tuning: captions, tags and one metadata JSON."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sdprep.api import apply, caption, check, clean, edit, export, import_, merge, plan_edit, stats, tag, undo
    from sdprep.errors import (
        CatalogError,
        FolderInUse,
        HubError,
        MetadataError,
        MissingExtra,
        MissingProvider,
        MissingSidecars,
        ModelError,
        NoImages,
        NoSidecars,
        ReadOnlyFolder,
        SdprepError,
        UsageError,
        WorkerError,
        WriteError,
    )
    from sdprep.report import CancelToken, Listener, NullListener, RunReport

__version__ = "0.1.0"
# The public API, described in docs/api.md. Each name is imported when it is first used.
__all__ = [
    "CancelToken", "CatalogError", "FolderInUse", "HubError", "Listener", "MetadataError", "MissingExtra",
    "MissingProvider", "MissingSidecars", "ModelError", "NoImages", "NoSidecars", "NullListener", "ReadOnlyFolder",
    "RunReport", "SdprepError", "UsageError", "WorkerError", "WriteError", "__version__",
    "apply", "caption", "check", "clean", "edit", "export", "import_", "merge", "plan_edit", "stats", "tag", "undo",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'sdprep' has no attribute {name!r}")
    if name in ("CancelToken", "Listener", "NullListener", "RunReport"):
        return getattr(import_module("sdprep.report"), name)
    return getattr(import_module("sdprep.errors" if name[0].isupper() else "sdprep.api"), name)


def __dir__() -> list[str]:
    return __all__

"""Importing optional packages: one that is not installed is told from one that cannot be loaded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sdprep.errors import MissingExtra, ModelError, lacks_memory
from sdprep.models.parse import cause


@contextmanager
def importing(package: str, extra: str) -> Iterator[None]:
    """Inside, `package` of the extra `extra` is imported.

    Raises MissingExtra if it is not installed, ModelError if it is installed and cannot be loaded.
    """
    try:
        yield
    except Exception as error:  # a clash of versions ends an import with any error
        if isinstance(error, ModuleNotFoundError) and error.name == package:
            raise MissingExtra(package, extra) from error
        advice = "\nFree some memory, or allow the process more of it (ulimit -v)" if lacks_memory(error) else ""
        raise ModelError(f"{package} is installed but cannot be loaded: {cause(error)}{advice}") from error

"""Any moves, copies and edits between runs: what sdprep wrote stays sdprep's, and what a user wrote stays the user's."""

import random
import shutil
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from sdprep.catalog.session import AccessMode, CatalogAccess, CatalogSession
from sdprep.rules.mixed_text import MixedText, Part
from sdprep.rules.policy import SidecarState
from sdprep.report import CancelToken
from sdprep.tasks.annotation.moves import recognise

"""Catalogs that stay open: locked for one action, and opened anew when something has happened to their file."""

import pytest

from sdprep.catalog.schema import FILE, FOLDER
from sdprep.catalog.session import AccessMode, CatalogAccess, CatalogSession
from sdprep.errors import CatalogFailed, FolderInUse
from sdprep.tasks.review.visit import KeptCatalogs


def access(mode=AccessMode.ADD):
    return CatalogAccess("review", mode, print)


@pytest.fixture
def kept(tmp_path):
    with_all = KeptCatalogs([tmp_path], access())
    yield with_all
    with_all.close()


def test_the_lock_is_held_during_an_action_alone(tmp_path, kept):
    with kept.anew(access()) as catalogs:
        catalogs.of(tmp_path)
        with (
            pytest.raises(FolderInUse),
            CatalogSession([tmp_path], CatalogAccess("tag", AccessMode.ADD, print)) as other,
        ):
            other.of(tmp_path)
    with CatalogSession([tmp_path], access()) as other:
        other.of(tmp_path)


def test_the_connection_stays_open_between_actions(tmp_path, kept):
    with kept.anew(access()) as catalogs:
        first = catalogs.of(tmp_path)
    with kept.anew(access()) as catalogs:
        assert catalogs.of(tmp_path) is first


def test_a_lock_that_another_run_holds_is_not_waited_for_and_taken_later(tmp_path, kept):
    with CatalogSession([tmp_path], access()) as other:
        other.of(tmp_path)
        with pytest.raises(FolderInUse), kept.anew(access()) as catalogs:
            catalogs.of(tmp_path)
    with kept.anew(access()) as catalogs:
        assert catalogs.of(tmp_path).file == tmp_path / FOLDER / FILE


def test_a_catalog_that_was_replaced_is_opened_anew(tmp_path, kept):
    with kept.anew(access()) as catalogs:
        first = catalogs.of(tmp_path)
    for path in (tmp_path / FOLDER).glob(f"{FILE}*"):
        path.unlink()
    with kept.anew(access()) as catalogs:
        second = catalogs.of(tmp_path)
        assert second is not first
        assert second.file.exists()


def test_a_reader_sees_a_catalog_that_is_made_later(tmp_path, kept):
    reader = KeptCatalogs([tmp_path], access(AccessMode.DRY_RUN))
    with reader as catalogs:
        assert catalogs.of(tmp_path).file is None
    with kept.anew(access()) as catalogs:
        catalogs.of(tmp_path)
    with reader as catalogs:
        assert catalogs.of(tmp_path).file is not None
    reader.close()


def test_an_action_that_fails_releases_its_lock_and_the_next_one_opens_anew(tmp_path, kept):
    found = []
    with pytest.raises(CatalogFailed, match="no"):
        fail(kept, tmp_path, found)
    with kept.anew(access()) as catalogs:
        assert catalogs.of(tmp_path) is not found[0]


def fail(kept, folder, found):
    with kept.anew(access()) as catalogs:
        found.append(catalogs.of(folder))
        raise CatalogFailed("no")

"""A folder of images with captions and tags, and the page over it, asked as a browser asks."""

import json

import pytest

from sdprep.tasks.review.review import open_review

TOKEN = "t" * 43
NAMES = ("a.png", "b.png", "c.png", "d.png")
TAGS = {"a.txt": b"1girl, hat\n", "b.txt": b"1girl,smile\r\n", "c.txt": b"\xef\xbb\xbfhat; 1boy"}


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(hasty_catalogs):
    """No test here pulls the plug."""


@pytest.fixture
def folder(tmp_path, put_image):
    """Four images: three with tags, as different programs write them, one without, one with a caption."""
    folder = tmp_path / "imgs"
    for name in NAMES:
        put_image(folder / name)
    for name, data in TAGS.items():
        (folder / name).write_bytes(data)
    (folder / "a.caption").write_bytes(b"A girl with a hat.\n")
    return folder


class Page:
    """What a browser with the page open asks for."""

    def __init__(self, client):
        self.client, self.base = client, f"/{TOKEN}"

    def get(self, path, **params):
        return self.client.get(f"{self.base}/{path}", params=params)

    def post(self, path, **body):
        return self.client.post(f"{self.base}/{path}", json=body)

    def view(self, where=""):
        return self.view_with_rows(where, near=0, rows=0)[0]

    def view_with_rows(self, where, near, rows):
        data = self.get("api/view", where=where, near=near, rows=rows).content
        count, *numbers = (int.from_bytes(data[at : at + 4], "little") for at in range(0, len(data) // 4 * 4, 4))
        return numbers[:count], json.loads(data[4 + 4 * count :])

    def row(self, number):
        return self.post("api/rows", numbers=[number]).json()["rows"][0]

    def put(self, number, kind, text, expected=None):
        return self._put(number, kind, {"text": text}, expected)

    def operate(self, number, name, value, *expected):
        match = '", "'.join(expected) or None
        return self._put(number, "tags", {"operation": {"name": name, "value": value}}, match)

    def _put(self, number, kind, body, expected):
        match = self.row(number)[kind]["hash"] if expected is None else expected
        path = f"{self.base}/api/text/{number}/{kind}"
        return self.client.put(path, json=body, headers={"If-Match": f'"{match}"'})

    def plan(self, name, value="", numbers=(0, 1, 2, 3), kind="tags"):
        return self.post("api/plan", numbers=list(numbers), kind=kind, operation={"name": name, "value": value}).json()

    def edit(self, *args, **kwargs):
        return self.post("api/apply", plan=self.plan(*args, **kwargs)["plan"]).json()


@pytest.fixture
def open_page(folder):
    """Opens the page over a folder, with all texts read."""
    testclient = pytest.importorskip("starlette.testclient")
    from sdprep.review.app import build

    opened = []

    def open_one(directory=folder, **options):
        review = open_review(directory, **options)
        review.load()
        review.close()
        client = testclient.TestClient(build(review, TOKEN), base_url="http://127.0.0.1:8000")
        client.__enter__()
        opened.append(client)
        page = Page(client)
        page.review = review
        return page

    yield open_one
    for client in opened:
        client.__exit__(None, None, None)


@pytest.fixture
def page(open_page):
    return open_page()

"""A Ray cluster of three nodes on this machine: a head without CPUs, and two nodes of one CPU."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from tests.engines.engine import FAKES

ROOT = Path(__file__).parents[3]
STORE = 80 << 20


@contextmanager
def three_nodes() -> Iterator[Any]:
    """The cluster; its nodes can import the tests."""
    from ray.cluster_utils import Cluster

    head = {"num_cpus": 0, "object_store_memory": STORE, "include_dashboard": False}
    # Ray's sockets lie below it, whose paths are short, and the address of the cluster.
    with (
        tempfile.TemporaryDirectory(prefix="ray", ignore_cleanup_errors=True) as folder,
        patch.dict(os.environ, RAY_TMPDIR=folder),
    ):
        cluster = Cluster(initialize_head=True, head_node_args=head)
        try:
            for _ in range(2):
                add_node(cluster)
            yield cluster
        finally:
            cluster.shutdown()


def add_node(cluster: Any) -> Any:
    """A node of one CPU."""
    return cluster.add_node(num_cpus=1, object_store_memory=STORE)


def driver(cluster: Any, folder: Path, *options: str, decoder: str | None = None) -> subprocess.Popen[str]:
    """`sdprep tag` over the tars of a folder, on the cluster; its results are in `out` there."""
    words = ["tag", str(folder), "--results", str(folder / "out"), "--model", str(FAKES / "fake-tag.toml"),
             "--workers", "1", "--engine", "ray", "--ray-address", cluster.address, *options]  # fmt: skip
    program = (
        f"import sys; from sdprep.engines import base\nbase.DECODE = {decoder!r} or base.DECODE\n"
        f"from sdprep.cli.main import main; sys.argv = {['sdprep', *words]!r}; main()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

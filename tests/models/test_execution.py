"""The processors that a process may use, by the control groups of Linux."""

import math
import os

import pytest

from sdprep.models.execution import cpu_quotas, thread_count, usable_cpus


@pytest.fixture
def system(tmp_path):
    """Writes files of /proc and /sys below a folder of the test."""

    def write(**files):
        for name, text in files.items():
            path = tmp_path / {"groups": "proc/self/cgroup"}.get(name, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def limits(root):
    return [quota for quota in cpu_quotas(root) if quota < math.inf]


def test_a_quota_of_version_2_counts(system):
    root = system(groups="0::/job\n", **{"sys/fs/cgroup/job/cpu.max": "150000 100000\n"})
    assert limits(root) == [1.5]


def test_a_quota_of_an_ancestor_counts_too(system):
    files = {"sys/fs/cgroup/a/cpu.max": "200000 100000\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}
    assert limits(system(groups="0::/a/b\n", **files)) == [2.0]


def test_a_container_that_sees_its_own_group_as_the_root_finds_its_quota(system):
    root = system(groups="0::/\n", **{"sys/fs/cgroup/cpu.max": "50000 100000\n"})
    assert limits(root) == [0.5]


@pytest.mark.parametrize("path", ["/docker/1f", "/"])
def test_a_quota_of_version_1_counts(system, path):
    files = {"sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n", "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n"}
    assert 3.0 in limits(system(groups=f"5:memory:{path}\n4:cpu,cpuacct:{path}\n", **files))


@pytest.mark.parametrize("value", ["max 100000\n", "-1 100000\n"])
def test_no_limit_is_no_limit(system, value):
    assert limits(system(groups="0::/\n", **{"sys/fs/cgroup/cpu.max": value})) == []


def test_a_system_without_control_groups_has_no_limit(tmp_path):
    assert limits(tmp_path) == []


def test_a_part_of_a_processor_counts_as_one(system):
    assert usable_cpus(system(groups="0::/\n", **{"sys/fs/cgroup/cpu.max": "20000 100000\n"})) == 1


def test_a_quota_above_what_is_there_changes_nothing(system, tmp_path):
    unlimited = usable_cpus(tmp_path)
    assert usable_cpus(system(groups="0::/\n", **{"sys/fs/cgroup/cpu.max": "100000000 100000\n"})) == unlimited


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity of Linux")
def test_the_affinity_of_the_process_counts(tmp_path):
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cpus(tmp_path) == 1
    finally:
        os.sched_setaffinity(0, before)


@pytest.mark.parametrize(("usable", "present", "threads"), [(2, 8, 2), (1, 2, 1), (8, 8, 0)])
def test_only_a_limit_makes_us_tell_onnxruntime_a_number(usable, present, threads):
    assert thread_count(usable, present) == threads


@pytest.mark.parametrize(
    ("usable", "num_processes", "threads"), [(8, 2, 4), (7, 2, 3), (2, 4, 1), (8, 1, 0), (4, 1, 4)]
)
def test_models_that_share_the_processors_have_a_part_of_the_threads_each(usable, num_processes, threads):
    assert thread_count(usable, 8, num_processes) == threads

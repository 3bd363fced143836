"""How many processors this process may really use: what it is bound to, and what its control groups allow."""

from __future__ import annotations

import contextlib
import math
import os
import sys
from pathlib import Path


def cores() -> int:
    """The processors that this process is bound to, as far as the quota of its control groups goes; at least one."""
    bound = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return max(1, math.ceil(min(bound, quota())))


def quota(groups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> float:
    """Processors that the control groups allow, the narrowest of all levels; infinity where nothing limits them.

    Args:
        groups: where control groups are mounted: version 2 itself, or version 1 with a folder for each controller.
        own: names this process's group in each hierarchy, as `number:controllers:path`.
    """
    cores = math.inf
    with contextlib.suppress(OSError, ValueError):
        for line in own.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            mounts = [groups / controllers] if controllers else [groups]
            if "cpu" in controllers.split(","):
                mounts.append(groups / "cpu")
            elif controllers:
                continue
            for mount in mounts:
                cores = min([cores, *map(_limit, _levels(mount, path))])
    # In a container the named group may be hidden, and what limits it stands at the mount itself.
    return min(cores, _limit(groups), _limit(groups / "cpu"))


def _levels(mount: Path, path: str) -> list[Path]:
    """The folders of the group `path` and of all that it lies in."""
    group = mount / path.lstrip("/")
    return [group, *(parent for parent in group.parents if parent.is_relative_to(mount))]


def _limit(group: Path) -> float:
    """Processors that the files of one group allow: `cpu.max` (version 2), `cpu.cfs_*_us` (version 1)."""
    with contextlib.suppress(OSError, ValueError):
        share, period = (group / "cpu.max").read_text().split()
        return int(share) / int(period)
    with contextlib.suppress(OSError, ValueError):
        share, period = (int((group / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
        return share / period if share > 0 else math.inf
    return math.inf

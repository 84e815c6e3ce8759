"""Refusing a directory on a network file system, where LMDB's locks do not hold and a file comes to harm in silence."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from lmdbq.errors import NotOurFile

MOUNTS: Final = Path("/proc/self/mounts")
NETWORK_FILE_SYSTEMS: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs", "fuse.glusterfs"}
)


def refuse_network(directory: Path) -> None:
    """Raise NotOurFile if ``directory`` is on a network file system, as far as the mounts of this machine tell."""
    if not MOUNTS.exists():  # not Linux: nothing to ask
        return
    target = os.path.realpath(directory)
    best, kind = "", ""
    for line in MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines():
        _, mount, found, *_ = line.split(" ")
        mount = mount.replace("\\040", " ")
        inside = target == mount or target.startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best):
            best, kind = mount, found
    if kind in NETWORK_FILE_SYSTEMS:
        raise NotOurFile(f"{directory} is on a network file system ({kind}), where locks do not hold: use a local disk")

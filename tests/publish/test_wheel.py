"""The distributions, as users get them."""

from __future__ import annotations

import json
import re
import sys
import tarfile
import zipfile
from pathlib import Path

from tests.publish.conftest import ROOT, Environment, run

ROWS = 20_000
REPOSITORY = "https://github.com/burla-cloud/airflow-provider-burla/blob/main/"


def test_the_distributions_pass_twine(distributions: Path) -> None:
    answer = run(sys.executable, "-m", "twine", "check", "--strict", *sorted(distributions.iterdir()))
    assert answer.count("PASSED") == 2


def test_the_wheel_has_the_package_the_page_and_the_example_dags(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    static = (ROOT / "burla_provider" / "plugins" / "static").iterdir()
    dags = (ROOT / "dags").glob("*.py")
    assert names >= {f"burla_provider/plugins/static/{path.name}" for path in static if path.is_file()}
    assert names >= {f"burla_provider/example_dags/{path.name}" for path in dags}
    assert "burla_provider/py.typed" in names


def test_the_wheel_has_no_other_files(wheel: Path) -> None:
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert sorted(top.partition("-")[0] for top in tops) == ["airflow_provider_burla", "burla_provider"]


def test_links_of_the_description_work_outside_the_repository(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    [metadata] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
    links = re.findall(r"\]\(([^)]+)\)", archive.read(metadata).decode())
    assert links
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    # tests/unit/test_readme.py checks the anchors.
    files = [link.removeprefix(REPOSITORY).partition("#")[0] for link in links if link.startswith(REPOSITORY)]
    assert [file for file in files if not (ROOT / file).exists()] == []


def test_the_sdist_contains_the_tests(distributions: Path) -> None:
    [sdist] = distributions.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert names >= {"LICENSE", "Makefile", "constraints.txt", "tests/conftest.py", "dags/order_totals.py"}


def test_the_demo_runs_from_the_wheel_outside_the_checkout(wheel: Path, environment: Environment) -> None:
    environment.install("--constraint", ROOT / "constraints.txt", f"airflow-provider-burla[demo] @ {wheel.as_uri()}")
    output = environment.run("-m", "burla_provider.demo", "--rows", str(ROWS), "--directory", environment.home / "demo")
    summary = json.loads(output.splitlines()[-1])
    assert (summary["row_count"], summary["exact"]) == (ROWS, True)

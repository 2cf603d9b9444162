"""Pins of distributions that are on disk."""

from __future__ import annotations

import json

import pytest

from burla_provider.exceptions import InvalidParameterError
from burla_provider.jobs.requirements import resolve_requirements


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return ``install(name, version, *requires)``, which adds the records of a distribution to the path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name, version, *requires, origin=None):
        records = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        records.mkdir()
        headers = [f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {require}" for require in requires)]
        (records / "METADATA").write_text("Metadata-Version: 2.1\n" + "\n".join(headers) + "\n")
        if origin is not None:
            (records / "direct_url.json").write_text(json.dumps(origin))

    return write


def test_a_package_is_pinned_to_the_installed_version_with_its_dependencies(install):
    install("Zz_Frames", "2.2", "zz-numbers>=1")
    install("zz-numbers", "1.5", "zz-core")
    install("zz-core", "0.1")
    assert resolve_requirements(["zz-frames"]) == {
        "zz-frames": "Zz_Frames==2.2", "zz-numbers": "zz-numbers==1.5", "zz-core": "zz-core==0.1"
    }  # fmt: skip


def test_only_the_dependencies_of_requested_extras_are_pinned(install):
    install("zz-driver", "3.0", "zz-fast; extra == 'fast'", "zz-docs; extra == 'docs'")
    install("zz-fast", "3.0")
    install("zz-docs", "3.0")
    assert resolve_requirements(["zz-driver[fast]"]) == {"zz-driver": "zz-driver==3.0", "zz-fast": "zz-fast==3.0"}
    assert resolve_requirements(["zz-driver"]) == {"zz-driver": "zz-driver==3.0"}


def test_extras_of_a_dependency_are_followed(install):
    install("zz-app", "1", "zz-driver[fast]")
    install("zz-driver", "3.0", "zz-fast; extra == 'fast'")
    install("zz-fast", "3.0")
    assert set(resolve_requirements(["zz-app"])) == {"zz-app", "zz-driver", "zz-fast"}


def test_markers_are_evaluated_for_a_worker(install):
    install(
        "zz-app", "1", "zz-old; python_version < '3'", "zz-win; sys_platform == 'win32'", "zz-nix; os_name == 'posix'"
    )
    for name in ("zz-old", "zz-win", "zz-nix"):
        install(name, "1")
    assert set(resolve_requirements(["zz-app"])) == {"zz-app", "zz-nix"}


def test_circular_dependencies_end(install):
    install("zz-a", "1", "zz-b")
    install("zz-b", "1", "zz-a")
    assert set(resolve_requirements(["zz-a"])) == {"zz-a", "zz-b"}


def test_a_package_that_is_not_installed_may_have_a_version():
    assert resolve_requirements(["Zz.Absent==1.2"]) == {"zz-absent": "Zz.Absent==1.2"}


def test_an_explicit_version_overrides_the_installed_one(install):
    install("zz-app", "1", "zz-core")
    install("zz-core", "1")
    assert resolve_requirements(["zz-app==2"]) == {"zz-app": "zz-app==2", "zz-core": "zz-core==1"}


def test_an_explicit_version_overrides_that_of_a_dependency(install):
    install("zz-app", "1", "zz-core")
    install("zz-core", "1")
    expected = {"zz-app": "zz-app==1", "zz-core": "zz-core==5"}
    assert resolve_requirements(["zz-app", "zz-core==5"]) == expected
    assert resolve_requirements(["zz-core==5", "zz-app"]) == expected


def test_a_url_is_kept():
    url = "zz-app @ https://example.com/zz_app-1-py3-none-any.whl"
    assert resolve_requirements([url]) == {"zz-app": url}


def test_a_package_from_a_repository_is_pinned_to_its_commit(install):
    install("zz-app", "1", origin={"url": "https://example.com/a.git", "vcs_info": {"vcs": "git", "commit_id": "abc"}})
    assert resolve_requirements(["zz-app"]) == {"zz-app": "zz-app @ git+https://example.com/a.git@abc"}


def test_a_local_version_is_removed(install):
    install("zz-torch", "2.1+cu121")
    assert resolve_requirements(["zz-torch"]) == {"zz-torch": "zz-torch==2.1"}


def test_burla_is_not_pinned():
    assert resolve_requirements(["burla==1.8.4"]) == {}


def test_the_requirements_of_the_provider_are_resolved():
    pins = resolve_requirements(["psycopg[binary]", "tenacity"])
    assert {"psycopg", "psycopg-binary", "tenacity"} <= set(pins)
    assert len(pins) < 6


@pytest.mark.parametrize(
    ("requirement", "problem"),
    [
        ("zz-absent", "'zz-absent' is not installed here, so its version is unknown"),
        ("zz-absent>=2", "'zz-absent' is not installed here"),
        ("psycopg>=99", "excludes the installed version"),
        ("not a requirement", "is not a requirement"),
    ],
)
def test_a_requirement_without_a_usable_version_is_refused(requirement, problem):
    with pytest.raises(InvalidParameterError, match=problem):
        resolve_requirements([requirement])


def test_a_package_from_a_local_directory_is_refused(install):
    install("zz-mine", "1", origin={"url": "file:///somewhere", "dir_info": {"editable": True}})
    with pytest.raises(InvalidParameterError, match="installed from a directory of this machine"):
        resolve_requirements(["zz-mine"])

"""Pin the packages that workers install: the requirements of a task, and their dependencies."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from burla_provider.exceptions import InvalidParameterError
from burla_provider.jobs.client_process import child_environment
from burla_provider.jobs.job import Engine

_PREINSTALLED = {"burla"}
_WORKER_MARKERS = {"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux"}


def resolve_requirements(names: Sequence[str], parameter: str = "requirements") -> dict[str, str]:
    """Return pins of ``names`` and of all their dependencies. Workers install no others.

    :param names: requirements as pip reads them: ``"pandas"``, ``"psycopg[binary]"``, ``"numpy>=2"``, ``"foo==1.2"``.
        A requirement with ``==`` or a URL need not be installed here, but then its dependencies are unknown.
    :param parameter: the parameter that requires them, for errors.
    :returns: canonical name -> requirement, ``{"pandas": "pandas==2.2.3", "numpy": "numpy==2.1.1", ...}``.
    :raises InvalidParameterError: if a requirement cannot be parsed, is not installed and has no version, or excludes
        the installed version.
    """
    roots: dict[str, str] = {}
    dependencies: dict[str, str] = {}
    for requirement in map(_parse, names):
        name = canonicalize_name(requirement.name)
        if name not in _PREINSTALLED:
            roots[name] = _resolve_root(name, requirement, dependencies, parameter)
    return {**dependencies, **roots}


def requirement_names(names: Sequence[str]) -> set[str]:
    """Return the canonical names of requirements.

    :raises InvalidParameterError: if one cannot be parsed.
    """
    return {canonicalize_name(requirement.name) for requirement in map(_parse, names)}


def requirements_for(engine: Engine, names: Sequence[str], parameter: str = "requirements") -> dict[str, str]:
    """Return what the workers of an engine must install. On the local engine it is nothing: all must be installed.

    :param parameter: the parameter that requires them, for errors.
    :raises InvalidParameterError: as ``resolve_requirements`` and ``_check_installed``.
    """
    if engine.is_local:
        _check_installed(names, engine.python, parameter)
        return {}
    return resolve_requirements(names, parameter)


def _check_installed(names: Sequence[str], python: str | None, parameter: str) -> None:
    """Check that an interpreter has the requirements. The local engine installs nothing.

    :param names: requirements, as for ``resolve_requirements``.
    :param python: the interpreter; None: this one.
    :raises InvalidParameterError: if a requirement is not installed, or excludes the installed version.
    """
    parsed = map(_parse, names)
    requirements = [item for item in parsed if item.marker is None or item.marker.evaluate()]
    versions = _installed_versions([requirement.name for requirement in requirements], python)
    if versions is None:
        return
    for requirement in requirements:
        version = versions[requirement.name]
        if version is None or not requirement.specifier.contains(version, prereleases=True):
            found = f"{requirement.name} {version}" if version else f"no {requirement.name}"
            problem = f"the local engine's interpreter has {found}."
            advice = f"Install {requirement} there: the local engine installs no packages."
            raise InvalidParameterError(parameter, problem, advice)


def _installed_versions(names: Sequence[str], python: str | None) -> dict[str, str | None] | None:
    # Name -> installed version. None: the interpreter cannot be run, which the client process reports.
    if python is None:
        return {name: found.version if (found := _installed(name)) else None for name in names}
    command = [python, "-c", _VERSIONS_SCRIPT, *names]
    try:
        result = subprocess.run(command, capture_output=True, check=True, timeout=60, env=child_environment(os.environ))
    except (OSError, subprocess.SubprocessError):
        return None
    versions: dict[str, str | None] = json.loads(result.stdout)
    return versions


_VERSIONS_SCRIPT = """
import json, sys
from importlib import metadata
versions = {}
for name in sys.argv[1:]:
    try:
        versions[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        versions[name] = None
print(json.dumps(versions))
"""


def _parse(text: str) -> Requirement:
    try:
        return Requirement(text)
    except InvalidRequirement as error:
        problem = f"{text!r} is not a requirement: {str(error).splitlines()[0]}."
        raise InvalidParameterError("requirements", problem, 'Use pip\'s syntax: "pandas", "foo==1.2".') from None


def _resolve_root(name: str, requirement: Requirement, dependencies: dict[str, str], parameter: str) -> str:
    pin = _explicit_pin(requirement)
    installed = _installed(name)
    if installed is None:
        if pin is None:
            problem = f"{requirement.name!r} is not installed here, so its version is unknown."
            advice = f'Add a version ("{requirement.name}==1.0"), or install it.'
            if parameter != "requirements":
                advice = f'Install it, or give its version: requirements=["{requirement.name}==1.0"].'
            raise InvalidParameterError(parameter, problem, advice)
        return pin
    if pin is None and not requirement.specifier.contains(installed.version, prereleases=True):
        problem = f"{requirement} excludes the installed version, {installed.version}."
        raise InvalidParameterError("requirements", problem, "Use == with a version, or install another version.")
    _add_dependencies(installed, requirement.extras, dependencies)
    return pin or _pin(installed)


def _explicit_pin(requirement: Requirement) -> str | None:
    if requirement.url:
        return f"{requirement.name} @ {requirement.url}"
    exact = [part.version for part in requirement.specifier if part.operator == "==" and "*" not in part.version]
    return f"{requirement.name}=={exact[0]}" if exact else None


def _add_dependencies(distribution: metadata.Distribution, extras: Iterable[str], pins: dict[str, str]) -> None:
    seen = set()
    waiting = [(distribution, frozenset(extras))]
    while waiting:
        parent, parent_extras = waiting.pop()
        for requirement in _dependencies(parent, parent_extras):
            name = canonicalize_name(requirement.name)
            found = _installed(name)
            key = (name, frozenset(requirement.extras))
            if found is None or key in seen:  # an optional dependency that is not installed is not needed
                continue
            seen.add(key)
            pins.setdefault(name, _pin(found))
            waiting.append((found, frozenset(requirement.extras)))


def _dependencies(distribution: metadata.Distribution, extras: frozenset[str]) -> Iterator[Requirement]:
    for text in distribution.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({**_WORKER_MARKERS, "extra": extra}) for extra in ("", *extras)):
            yield requirement


def _installed(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def _pin(distribution: metadata.Distribution) -> str:
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    name = distribution.metadata["Name"]
    if "dir_info" in origin:
        problem = f"{name!r} is installed from a directory of this machine, which workers do not have."
        advice = "Omit it if it is editable (its modules are sent with the function), or publish it to an index."
        raise InvalidParameterError("requirements", problem, advice)
    if "vcs_info" in origin:
        source = origin["vcs_info"]
        return f"{name} @ {source['vcs']}+{origin['url']}@{source['commit_id']}"
    # Package indexes have no local versions ("2.1+cu121").
    return f"{name}=={distribution.version.partition('+')[0]}"

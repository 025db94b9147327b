"""The two lock files: complete, hashed, of one mind, and silent about where the packages came from."""

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-runtime.lock")


@pytest.mark.parametrize("name", LOCKS)
def test_every_line_of_a_lock_pins_a_package_or_is_a_hash_of_it(name: str) -> None:
    """So no index, host or local path can hide in it."""
    text = (ROOT / name).read_text()
    entry = r"[a-z0-9][a-z0-9._-]*==[^\s;]+(?: ; [^\\\n]+)?(?: \\\n    --hash=sha256:[0-9a-f]{64})+\n"
    assert re.fullmatch(f"(?:{entry})+", text)


def test_the_runtime_lock_is_the_part_of_the_whole_lock_that_the_package_needs() -> None:
    everything, runtime = _pins("requirements.lock"), _pins("requirements-runtime.lock")
    assert runtime.items() <= everything.items()
    assert "pytest" in everything.keys() - runtime.keys()


@pytest.mark.parametrize("extra", ["", "dev"])
def test_every_dependency_is_locked_within_its_range(extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = _pins("requirements.lock" if extra else "requirements-runtime.lock")
    asked = map(Requirement, project["optional-dependencies"][extra] if extra else project["dependencies"])
    outside = [str(one) for one in asked if pins.get(canonicalize_name(one.name), "") not in one.specifier]
    assert outside == []


def _pins(name: str) -> dict[str, str]:
    """Return canonical name → version."""
    found = re.findall(r"^([a-z0-9._-]+)==([^\s;]+)", (ROOT / name).read_text(), re.MULTILINE)
    return {canonicalize_name(package): version for package, version in found}

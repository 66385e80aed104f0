"""`docs/compatibility.md` agrees with setup.py, continuous integration and this environment."""

import re
import runpy
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

ROOT = Path(__file__).parents[1]
EXTRAS = ("ann", "demo", "linear", "onnx", "plot", "skops", "table")
ENGINES = {"dask": "Dask", "ray": "Ray", "spark": "Spark"}
ROW = re.compile(r"^\| (\S+) \| (?:skxmc|`\[\w+\]`) \| (\S+) \| (\S+) \| (\S+) \|$", re.MULTILINE)
PAGE = (ROOT / "docs" / "compatibility.md").read_text("utf-8")
ROWS = {package: versions for package, *versions in ROW.findall(PAGE)}
PACKAGES = sorted(ROWS.keys() - {"Python"})


@pytest.fixture
def declared(monkeypatch):
    """Return what setup.py declares."""
    found = {}
    monkeypatch.setattr("setuptools.setup", lambda **given: found.update(given))
    runpy.run_path(str(ROOT / "setup.py"))
    return found


def test_table_accepts_what_setup_py_accepts(declared):
    needed = declared["install_requires"] + [
        line for extra in EXTRAS for line in declared["extras_require"][extra]
    ]
    accepted = {one.name: str(one.specifier) for one in map(Requirement, needed)}
    accepted["Python"] = declared["python_requires"]
    assert {package: row[0] for package, row in ROWS.items()} == accepted
    assert set(declared["extras_require"]) == {*EXTRAS, *ENGINES, "test", "docs", "dev"}


@pytest.mark.parametrize("extra", ENGINES)
def test_extra_of_engine_accepts_from_the_version_that_ran(extra, declared):
    (line,) = declared["extras_require"][extra]
    (ran,) = re.findall(rf"^\| {ENGINES[extra]} \| (\S+) \|", PAGE, re.MULTILINE)
    (lowest,) = Requirement(line).specifier
    assert lowest.operator == ">="
    assert ran.startswith(f"{lowest.version}.")


@pytest.mark.parametrize("package", PACKAGES)
def test_oldest_run_is_lowest_accepted_and_that_of_ci(package):
    accepted, oldest, newest = ROWS[package]
    workflow = (ROOT / ".github" / "workflows" / "check.yml").read_text("utf-8")
    (pin,) = re.findall(rf"(?<= ){package}==(\S+)", workflow)
    assert Version(oldest) in SpecifierSet(f"=={pin}")
    assert accepted == f">={pin.removesuffix('.*')}"
    assert Version(oldest) <= Version(newest)


@pytest.mark.parametrize("package", PACKAGES)
def test_installed_version_is_not_older_than_oldest_run(package):
    try:
        installed = Version(version(package))
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed")
    assert installed >= Version(ROWS[package][1])

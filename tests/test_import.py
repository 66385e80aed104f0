"""Public names are imported on first use."""

import importlib
import subprocess
import sys

import pytest

import skxmc


def test_import_every_public_name_is_defined():
    assert set(skxmc._MODULES) | {"__version__"} == set(skxmc.__all__)
    assert {*skxmc.__all__, "datasets", "metrics"} <= set(dir(skxmc))
    for name, module in skxmc._MODULES.items():
        defined = getattr(importlib.import_module(f"skxmc.{module}"), name)
        assert defined.__module__ == f"skxmc.{module}"
        assert getattr(skxmc, name) is skxmc.__getattr__(name) is defined


def test_import_unknown_name_raises_error():
    with pytest.raises(AttributeError, match="module 'skxmc' has no attribute 'LightXML'"):
        _ = skxmc.LightXML
    with pytest.raises(ImportError, match="cannot import name 'LightXML'"):
        from skxmc import LightXML  # noqa: F401


def test_import_star_gives_every_public_name():
    names = {}
    exec("from skxmc import *", names)
    assert names.keys() - {"__builtins__"} == set(skxmc.__all__)
    assert names["LightXMLClassifier"] is skxmc.LightXMLClassifier


def test_import_loads_slow_packages_only_on_use():
    names = "OmikujiClassifier, BalancedLabelClusterer, LightXMLEnsemble, PropensityRanker"
    names += ", NeighborsClassifier"
    script = (
        "import sys, skxmc\n"
        "assert not {'torch', 'sklearn', 'numpy'} & set(sys.modules)\n"
        "assert skxmc.metrics.precision_at_k and skxmc.datasets.load_xmc\n"
        f"from skxmc import {names}\n"
        "assert not {'torch', 'faiss', 'matplotlib'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True)

import importlib.metadata

import skxmc


def test_show_versions_missing_package_prints_not_installed(capsys, monkeypatch):
    monkeypatch.setattr("skxmc._utils.versions.PACKAGES", ("scikit-learn", "skxmc-absent"))
    skxmc.show_versions()
    out = capsys.readouterr().out
    assert f"skxmc: {skxmc.__version__}\n" in out
    assert f"scikit-learn: {importlib.metadata.version('scikit-learn')}\n" in out
    assert "skxmc-absent: not installed\n" in out
    assert "CUDA devices: " in out

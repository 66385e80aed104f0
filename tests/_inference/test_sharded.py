"""Labels that stay in parts, one per process: predictions as with all of them, or clear errors."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from classifier_fixtures import encoder_path
from sharded_predictions import MODES

from skxmc._inference.sharded import Part
from skxmc._training import sharding
from skxmc._training.sharding import fit_into_memory

FOLDER = Path(__file__).parents[1]

needs_processes = pytest.mark.skipif(
    not hasattr(os, "fork") or not torch.distributed.is_available(),
    reason="needs fork and torch.distributed",
)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Run all groups of processes, and return what each process of a group has found."""
    folder = tmp_path_factory.mktemp("sharded")
    done = subprocess.run(
        [sys.executable, str(FOLDER / "sharded_predictions.py"), encoder_path(), str(folder)],
        capture_output=True,
        text=True,
        timeout=900,  # only guards against hanging
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]

    def load(group):
        paths = sorted(folder.glob(f"{group} [0-9].pt"))
        return [torch.load(path, weights_only=False) for path in paths]

    return load


@needs_processes
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [2, 3])
def test_predictions_with_labels_in_parts_are_those_of_saved_model(results, size, mode):
    found = [process["found"][mode] for process in results(f"predicting {size}")]
    assert len(found) == size
    for process in found:
        for name, whole in process["whole"].items():
            predicted = process["in parts"][name]
            assert np.array_equal(predicted, found[0]["in parts"][name]), name
            if name.startswith("labels"):
                assert np.array_equal(predicted, whole), name
            else:
                np.testing.assert_allclose(predicted, whole, atol=1e-6, rtol=0, err_msg=name)


@needs_processes
@pytest.mark.parametrize("size", [2, 3])
def test_each_process_has_its_labels_and_represents_its_texts(results, size):
    for rank, process in enumerate(results(f"predicting {size}")):
        for found in process["found"].values():
            n_own = len(range(rank, found["n_clusters"], size))
            assert found["n_rows"] == n_own + 1  # the dummy
        assert process["found"]["dynamic"]["n_texts"] == -(-20 // size)


@needs_processes
def test_memory_for_all_labels_is_that_of_float32_and_of_a_copy_in_direct_mode(results):
    found = results("predicting 2")[0]["found"]
    assert found["direct"]["n_bytes"] == 6 * 31 * (8 + 1)  # 30 labels and the dummy
    n_clusters, inputs = found["dynamic"]["n_clusters"], 32 + 1
    n_slots = round((found["dynamic"]["n_bytes"] / 4 / (n_clusters + 1) - inputs) / (8 + 1))
    assert 2 <= n_slots <= 4  # labels of the largest cluster


@needs_processes
def test_fit_warns_in_first_process_that_labels_stay_in_parts(results):
    first, second = results("predicting 2")
    assert "weights of 30 labels do not fit into the memory of each process" in first["shown"]
    assert second["shown"] == ""


@needs_processes
@pytest.mark.parametrize("case", ["static", "averaged"])
def test_fit_with_labels_in_parts_validates_and_learns_as_with_all(results, case):
    """Phases, averages, validation and early stopping. No process gathers the labels in a fit."""
    for process in results("validating"):
        (history, expected), (weights, expected_weights) = process["found"][case].values()
        assert any("valid_p_at_5" in epoch for epoch in history)
        for epoch in (*history, *expected):
            del epoch["seconds"]
        assert history == expected
        for name, weight in expected_weights.items():
            assert torch.equal(weights[name], weight), name


@needs_processes
def test_what_needs_all_labels_raises_if_they_are_in_parts(results):
    for process in results("failing"):
        for name, error in process["found"]["refused"].items():
            assert error.startswith("RuntimeError: The labels of this model are in parts"), name
            assert "Call save_pretrained in all processes. Then load the model" in error, name


@needs_processes
def test_callback_of_fit_with_labels_in_parts_cannot_predict(results):
    pytest.importorskip("sklearn.callback")
    errors = results("failing")[0]["found"]["callback"]
    assert list(errors) == ["epoch", "fit"]
    for error in errors.values():
        assert "in parts until fit ends" in error
        assert "Predict after fit, in all processes" in error


@needs_processes
def test_process_that_calls_alone_raises_and_may_encode(results):
    found = results("failing")[0]["found"]
    for name in ("alone", "saving"):
        assert "has waited 0:00:00.200000 for the same call in process 1" in found[name]
        assert "Make each call in all processes, with the same texts" in found[name]
    assert found["shapes"] == [(9, 32), (66, 8)]


@needs_processes
@pytest.mark.parametrize("what", ["texts", "k", "batches"])
def test_other_call_in_other_process_raises_in_both(results, what):
    (first,) = results("failing")
    error = first["found"][f"other {what}"]
    assert error.startswith("ValueError: Process 1 makes another call than process 0")
    assert "with the same texts and parameters" in error


@needs_processes
def test_failure_in_one_process_ends_call_in_all_and_next_call_works(results):
    (first,) = results("failing")
    lost = "RuntimeError: Process 0 of 2 cannot continue this call, because another process has"
    assert first["found"]["out of memory"].startswith(lost)
    assert first["found"]["killed"].startswith(lost)
    assert first["found"]["saving to another folder"].startswith("ValueError: ")
    before, *later = first["found"]["labels"]
    assert len(later) == 3
    assert all((labels == before).all() for labels in later)


@needs_processes
def test_prediction_after_group_was_closed_raises_and_fit_works(results):
    (first,) = results("failing")
    assert "not in a group of 2 processes now. Start all of them" in first["found"]["closed"]
    assert first["found"]["fitted alone"] is False


# ---------------------------------------------------------------- parts


class Others:
    """Stand in for the connections: what each process sends is known."""

    def __init__(self, *sent):
        self.sent = list(sent)

    def gather(self, own):
        return torch.stack([own if part is None else part for part in self.sent])


def test_best_of_part_takes_infinite_values_before_padding():
    values, own = torch.tensor([[0.5, -torch.inf]]), torch.tensor([[2, 0]])  # clusters 4 and 0
    padded = [0.5, torch.finfo(torch.float32).min, -torch.inf, -torch.inf]
    other = torch.tensor([[padded], [[5.0, 1, -torch.inf, -torch.inf]]]).double()
    clusters, _ = Part(6, 0, 2, Others(None, other)).best(own, values, 4)
    assert sorted(clusters[0, :2].tolist()) == [4, 5]
    assert sorted(clusters[0, 2:].tolist()) == [0, 1]


@pytest.mark.parametrize("n_dummies", [0, 1])
@pytest.mark.parametrize("block", [1, 16, 1 << 20])
def test_rows_for_first_are_whole_rows_in_its_memory(block, n_dummies):
    whole = torch.arange(2.0 * (7 + n_dummies)).reshape(-1, 2)

    class Replay(Others):
        """Send the next piece of each process."""

        def gather(self, own):
            n_rows = len(own)
            if not any(len(part) for part in self.sent):
                return own.expand(3, *own.shape)
            pieces = [part[:n_rows] for part in self.sent]
            self.sent = [part[n_rows:] for part in self.sent]
            padded = [torch.cat([p, p.new_zeros(n_rows - len(p), 2)]) for p in pieces]
            assert any(torch.equal(own, piece) for piece in padded)
            return torch.stack(padded)

    sent = [whole[rank:7:3] for rank in range(3)]
    for rank in range(3):
        part = Part(7, rank, 3, Replay(*sent))
        found = part.rows_for_first(part.own_rows(whole), block=block)
        assert torch.equal(found, whole if rank == 0 else whole[:0])


# ---------------------------------------------------------------- memory


def test_fit_into_memory_of_cpu_counts_processes(monkeypatch):
    monkeypatch.setattr(sharding, "available_memory", lambda: 1000.0)
    cpu = torch.device("cpu")
    assert fit_into_memory(400, cpu, 2)
    assert not fit_into_memory(401, cpu, 2)


def test_fit_into_memory_of_gpu_counts_what_torch_keeps(monkeypatch):
    for name, value in {
        "mem_get_info": (70, 900),
        "memory_reserved": 50,
        "memory_allocated": 20,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda _, value=value: value)
    gpu = torch.device("cuda", 0)
    assert fit_into_memory(80, gpu, 8)
    assert not fit_into_memory(81, gpu, 8)

"""Static negatives: the weights of each phase, the chosen clusters, and predictions."""

import copy
import itertools
import pickle

import numpy as np
import pytest
import torch
from classifier_fixtures import (
    assert_same_predictions,
    dataset,
    differ,
    fitted,
    make_classifier,
)

import skxmc._training.phases
from skxmc import LightXMLClassifier
from skxmc._model.network import LightXMLNetwork
from skxmc._training.trainer import TrainingSet

X, Y = dataset()
STATIC = ("static", "static-separate")
STAGES = {"static": ["recall", "rank", "recall"], "static-separate": ["recall", "rank"]}
PARTS = ("encoder", "rank_encoder", "recall_head", "bottleneck", "label_table")


def snapshot(network):
    return {name: value.clone() for name, value in network.state_dict().items()}


def changed(before, after):
    """Return the parts of the network whose weights have changed."""
    return {
        part
        for part in PARTS
        for name, value in before.items()
        if name.startswith(part + ".") and not torch.equal(value, after[name])
    }


@pytest.fixture
def runs(monkeypatch):
    """Record objective, clusters and weights before and after each run of a trainer."""
    noted = []

    class NotingTrainer(skxmc._training.phases.Trainer):
        def run(self):
            run = {"objective": self.objective, "chosen": self.data.chosen}
            run["before"] = snapshot(self.network)
            history = super().run()
            noted.append({**run, "after": snapshot(self.network)})
            return history

    monkeypatch.setattr(skxmc._training.phases, "Trainer", NotingTrainer)
    return noted


@pytest.mark.parametrize("sampling", STATIC)
def test_training_static_phases_train_only_their_weights(sampling, runs):
    clf = make_classifier(negative_sampling=sampling).fit(X, Y)
    assert [run["objective"] for run in runs] == STAGES[sampling]
    trained = [changed(run["before"], run["after"]) for run in runs]
    ranking = {"bottleneck", "label_table"}
    if sampling == "static":
        expected = [{"encoder", "recall_head"}, {"encoder"} | ranking, {"recall_head"}]
    else:
        expected = [{"encoder", "recall_head"}, {"rank_encoder"} | ranking]
        for name, value in clf.network_.encoder.state_dict().items():
            torch.testing.assert_close(runs[1]["before"]["rank_encoder." + name], value)
    assert trained == expected
    assert all(p.requires_grad for p in clf.network_.parameters())


def test_training_warm_start_keeps_encoder_of_ranking_head(runs):
    clf = make_classifier(negative_sampling="static-separate", warm_start=True).fit(X, Y)
    clf.fit(X, Y)
    ranking = {"rank_encoder", "bottleneck", "label_table"}
    trained = [changed(run["before"], run["after"]) for run in runs]
    assert trained == [{"encoder", "recall_head"}, ranking] * 2
    for earlier, later in itertools.pairwise(runs[1:]):  # from the first ranking on
        assert changed(earlier["after"], later["before"]) == set()


@pytest.mark.parametrize("sampling", STATIC)
def test_training_static_texts_rank_their_chosen_clusters(sampling, runs, monkeypatch):
    batch, losses, seen = TrainingSet.batch, LightXMLNetwork.losses, []

    def noting_rows(self, rows):
        seen.append([rows, None, None])
        return batch(self, rows)

    def noting_clusters(self, *args, **kwargs):
        if "objective" in kwargs:  # not while the start is calibrated
            seen[-1][1:] = kwargs["objective"], kwargs["chosen"]
        return losses(self, *args, **kwargs)

    monkeypatch.setattr(TrainingSet, "batch", noting_rows)
    monkeypatch.setattr(LightXMLNetwork, "losses", noting_clusters)
    make_classifier(negative_sampling=sampling, n_candidate_clusters=3).fit(X, Y)
    ranked = [(rows, chosen) for rows, objective, chosen in seen if objective == "rank"]
    assert len(ranked) == 2 * 4  # epochs and batches
    for rows, chosen in ranked:
        assert chosen.shape == (16, 3)
        np.testing.assert_array_equal(chosen, runs[1]["chosen"][rows])


@pytest.mark.parametrize("sampling", STATIC)
def test_training_static_history_has_every_phase(sampling):
    clf = make_classifier(negative_sampling=sampling).fit(X, Y)
    objectives = [stage for stage in STAGES[sampling] for _ in range(clf.max_epochs)]
    assert [epoch["objective"] for epoch in clf.history_] == objectives
    assert [epoch["epoch"] for epoch in clf.history_] == list(range(len(objectives)))
    assert clf.n_iter_ == len(objectives)
    for epoch in clf.history_:
        assert (epoch["recall_loss"] > 0) == (epoch["objective"] == "recall")
        assert (epoch["rank_loss"] > 0) == (epoch["objective"] == "rank")
    assert {epoch["objective"] for epoch in fitted().history_} == {"both"}


def test_static_clusters_are_those_of_trained_recall_head(runs):
    """The second phase does not change the recall head, so the fitted one recalls the same."""
    clf = make_classifier(negative_sampling="static-separate", n_candidate_clusters=3).fit(X, Y)
    chosen = runs[1]["chosen"]
    assert runs[0]["chosen"] is None
    network = clf.network_  # its recall head has not changed since the first phase
    features = torch.from_numpy(clf.encode(X))
    with torch.no_grad():
        logits = network.recall_head(features - network.feature_mean)
    cluster_of = network.layout.cluster_of.numpy()
    for row, logit in enumerate(logits.sigmoid().numpy()):
        positive = np.unique(cluster_of[Y[[row]].indices])
        preference = logit + np.isin(np.arange(len(logit)), positive)
        assert set(chosen[row]) == set(np.argsort(-preference)[:3])
        assert set(positive) <= set(chosen[row]) or len(positive) > 3


def test_training_static_separate_predicts_with_both_encoders():
    clf = make_classifier(negative_sampling="static-separate").fit(X, Y)
    assert clf.encode(X).shape == fitted().encode(X).shape
    other = pickle.loads(pickle.dumps(clf))
    with torch.no_grad():
        next(other.network_.rank_encoder.parameters()).add_(0.1)
    assert differ(clf, other)
    np.testing.assert_array_equal(other.encode(X), clf.encode(X))


@pytest.mark.parametrize("sampling", STATIC)
def test_training_static_saved_model_predicts_the_same(sampling, tmp_path):
    clf = make_classifier(negative_sampling=sampling).fit(X, Y)
    assert_same_predictions(pickle.loads(pickle.dumps(clf)), clf)
    clf.save_pretrained(tmp_path / "model")
    assert_same_predictions(LightXMLClassifier.from_pretrained(tmp_path / "model"), clf)


@pytest.mark.parametrize("sampling", STATIC)
def test_training_static_warm_start_changes_the_model(sampling):
    clf = make_classifier(negative_sampling=sampling, warm_start=True).fit(X, Y)
    before = pickle.loads(pickle.dumps(clf))
    assert differ(clf.fit(X, Y), before)


def test_training_static_in_direct_mode_has_no_effect():
    static = make_classifier("direct", negative_sampling="static").fit(X, Y)
    assert_same_predictions(static, fitted("direct"))


def test_training_static_validates_in_ranking_phase_only():
    clf = make_classifier(negative_sampling="static").fit(X, Y, validation_data=(X, Y))
    measured = [epoch["objective"] for epoch in clf.history_ if "valid_p_at_5" in epoch]
    assert measured == ["rank"] * clf.max_epochs


def test_training_error_leaves_all_weights_trainable(monkeypatch):
    def fail(*_):
        raise RuntimeError("no memory")

    clf = copy.deepcopy(fitted()).set_params(negative_sampling="static", warm_start=True)
    monkeypatch.setattr(skxmc._training.phases, "static_clusters", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        clf.fit(X, Y)
    assert all(p.requires_grad for p in clf.network_.parameters())

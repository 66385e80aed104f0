"""Static negatives: what is trained when, on which clusters, and what predicts in the end."""

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
    """The parts of the network whose weights are not what they were."""
    return {
        part
        for part in PARTS
        for name, value in before.items()
        if name.startswith(part + ".") and not torch.equal(value, after[name])
    }


@pytest.fixture
def runs(monkeypatch):
    """What each trainer that is made from now on does: its task and the weights at both ends."""
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
def test_each_stage_trains_its_own_weights(sampling, runs):
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


def test_a_warm_start_keeps_the_encoder_of_the_ranking(runs):
    clf = make_classifier(negative_sampling="static-separate", warm_start=True).fit(X, Y)
    clf.fit(X, Y)
    ranking = {"rank_encoder", "bottleneck", "label_table"}
    trained = [changed(run["before"], run["after"]) for run in runs]
    assert trained == [{"encoder", "recall_head"}, ranking] * 2
    for earlier, later in itertools.pairwise(runs[1:]):  # the first ranking, and what came then
        assert changed(earlier["after"], later["before"]) == set()


@pytest.mark.parametrize("sampling", STATIC)
def test_each_text_ranks_the_clusters_chosen_for_it(sampling, runs, monkeypatch):
    batch, losses, seen = TrainingSet.batch, LightXMLNetwork.losses, []

    def noting_rows(self, rows):
        seen.append([rows])
        return batch(self, rows)

    def noting_clusters(self, *args, **kwargs):
        seen[-1] += [kwargs["objective"], kwargs["chosen"]]
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
def test_history_has_every_stage(sampling):
    clf = make_classifier(negative_sampling=sampling).fit(X, Y)
    objectives = [stage for stage in STAGES[sampling] for _ in range(clf.max_epochs)]
    assert [epoch["objective"] for epoch in clf.history_] == objectives
    assert [epoch["epoch"] for epoch in clf.history_] == list(range(len(objectives)))
    assert clf.n_iter_ == len(objectives)
    for epoch in clf.history_:
        assert (epoch["recall_loss"] > 0) == (epoch["objective"] == "recall")
        assert (epoch["rank_loss"] > 0) == (epoch["objective"] == "rank")
    assert {epoch["objective"] for epoch in fitted().history_} == {"both"}


def test_negatives_are_what_the_trained_generator_recalls(runs):
    """One clusterer, one seed: the recall stage is also the recall of a classifier of its own."""
    clf = make_classifier(negative_sampling="static-separate", n_candidate_clusters=3).fit(X, Y)
    chosen = runs[1]["chosen"]
    assert runs[0]["chosen"] is None
    network = clf.network_  # its generator is as it was after the first stage
    features = torch.from_numpy(clf.encode(X))
    with torch.no_grad():
        logits = network.recall_head(features - network.feature_mean)
    cluster_of = network.layout.cluster_of.numpy()
    for row, logit in enumerate(logits.sigmoid().numpy()):
        positive = np.unique(cluster_of[Y[[row]].indices])
        preference = logit + np.isin(np.arange(len(logit)), positive)
        assert set(chosen[row]) == set(np.argsort(-preference)[:3])
        assert set(positive) <= set(chosen[row]) or len(positive) > 3


def test_ranking_of_its_own_encoder_predicts():
    clf = make_classifier(negative_sampling="static-separate").fit(X, Y)
    assert clf.encode(X).shape == fitted().encode(X).shape
    other = pickle.loads(pickle.dumps(clf))
    with torch.no_grad():
        next(other.network_.rank_encoder.parameters()).add_(0.1)
    assert differ(clf, other)
    np.testing.assert_array_equal(other.encode(X), clf.encode(X))


@pytest.mark.parametrize("sampling", STATIC)
def test_saved_and_loaded(sampling, tmp_path):
    clf = make_classifier(negative_sampling=sampling).fit(X, Y)
    assert_same_predictions(pickle.loads(pickle.dumps(clf)), clf)
    clf.save_pretrained(tmp_path / "model")
    assert_same_predictions(LightXMLClassifier.from_pretrained(tmp_path / "model"), clf)


@pytest.mark.parametrize("sampling", STATIC)
def test_warm_start_goes_on(sampling):
    clf = make_classifier(negative_sampling=sampling, warm_start=True).fit(X, Y)
    before = pickle.loads(pickle.dumps(clf))
    assert differ(clf.fit(X, Y), before)


def test_static_negatives_mean_nothing_without_a_ranking():
    static = make_classifier("direct", negative_sampling="static").fit(X, Y)
    assert_same_predictions(static, fitted("direct"))


def test_early_stopping_measures_the_ranking_only():
    clf = make_classifier(negative_sampling="static").fit(X, Y, validation_data=(X, Y))
    measured = [epoch["objective"] for epoch in clf.history_ if "valid_p_at_5" in epoch]
    assert measured == ["rank"] * clf.max_epochs


def test_a_failure_leaves_all_weights_trainable(monkeypatch):
    def fail(*_):
        raise RuntimeError("no memory")

    clf = copy.deepcopy(fitted()).set_params(negative_sampling="static", warm_start=True)
    monkeypatch.setattr(skxmc._training.phases, "static_clusters", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        clf.fit(X, Y)
    assert all(p.requires_grad for p in clf.network_.parameters())

"""Trials of heads: their score."""

import pytest
import torch
from trial_fixtures import trial_arguments

from skxmc import TopK
from skxmc._inference.predictor import best_first
from skxmc._training.initialization import Sample
from skxmc._training.trials import Trial
from skxmc.metrics import ndcg_at_k


@torch.no_grad()
def test_score_counts_labels_of_all_candidate_clusters(make_trainer):
    trainer = make_trainer(n_candidate_clusters=8)
    network, data, y, sample, settings = trial_arguments(trainer, is_clean=True)
    network.eval().recall_head.bias += torch.linspace(0, 9, 8)  # the first ones are last
    unknown = Sample(sample.rows[::5], torch.from_numpy(sample.features[::5]))

    def expected(n_clusters):
        scores = network.scores(unknown.features, n_clusters)
        columns, values = (array.numpy() for array in best_first(*scores, 5))
        return ndcg_at_k(y[unknown.rows], TopK(columns, values), k=5)

    found = Trial(data, y, sample, settings).score(network)
    assert found == pytest.approx(expected(8))
    assert found != pytest.approx(expected(5))

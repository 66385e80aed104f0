"""Approximate search of the best labels, against the exact one."""

import functools

import numpy as np
import pytest
import torch
from classifier_fixtures import dataset, make_classifier

from skxmc._inference import short_list as module
from skxmc._inference.low_precision import serving_copy
from skxmc._inference.short_list import ShortList, short_list
from skxmc._model.full_label import best_labels

X, Y = dataset()
N_GROUPS, DIM = 200, 8
N_PROBED = 64  # clusters of 14 labels on average


@pytest.fixture(scope="module")
def table():
    """Embeddings in 200 tight groups of 30, and as many labels without texts, which are equal."""
    generator = torch.Generator().manual_seed(0)
    centers = 4 * torch.randn(N_GROUPS, DIM, generator=generator)
    grouped = centers.repeat(30, 1) + 0.3 * torch.randn(30 * N_GROUPS, DIM, generator=generator)
    weight = torch.cat([grouped, torch.zeros(len(grouped), DIM)])
    bias = torch.randn(len(weight), generator=generator) - 3
    bias[len(grouped) :] = -9.0
    return weight, bias


@pytest.fixture(scope="module")
def states():
    return torch.randn(40, DIM, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def clusters(table):
    return ShortList(*table, n_probed=N_PROBED)


def test_short_list_every_label_is_in_one_cluster_of_limited_size(table, clusters):
    assert sorted(clusters.by_cluster.tolist()) == list(range(len(table[1])))
    assert clusters.sizes.min() > 0
    assert clusters.sizes.max() <= 2 * 14
    assert clusters.sizes.sum() == len(table[1])


def test_short_list_centers_and_spreads_are_those_of_the_members(table, clusters):
    vectors = np.hstack([table[0].numpy(), table[1].numpy()[:, None]])
    for cluster in (0, len(clusters.sizes) // 2, len(clusters.sizes) - 1):
        start = clusters.starts[cluster]
        members = vectors[clusters.by_cluster[start : start + clusters.sizes[cluster]].numpy()]
        np.testing.assert_allclose(clusters.centers[cluster], members.mean(0), atol=1e-5)
        spread = np.sqrt(((members - members.mean(0)) ** 2).sum() / len(members) / (DIM + 1))
        np.testing.assert_allclose(clusters.spreads[cluster], spread, atol=1e-5)


def test_short_list_promise_is_logit_of_center_and_two_deviations(clusters, states):
    promise = clusters.promise(states)
    for row, cluster in ((0, 0), (3, 7), (39, len(clusters.sizes) - 1)):
        *center, bias = clusters.centers[cluster].double().tolist()
        z = states[row].double().numpy()
        expected = z @ center + bias + 2 * np.linalg.norm(z) * float(clusters.spreads[cluster])
        assert float(promise[row, cluster]) == pytest.approx(expected, rel=1e-4, abs=1e-4)


def test_short_list_finds_nearly_all_of_the_best_labels(table, clusters, states):
    expected, of_expected = best_labels(states, *table, 5)
    found, logits = clusters.best_labels(states, *table, 5)
    for row, labels in enumerate(found):
        score = (table[0][labels] @ states[row]) + table[1][labels]
        torch.testing.assert_close(logits[row], score)
    shared = [np.intersect1d(a, b).size for a, b in zip(expected, found, strict=True)]
    assert np.mean(shared) / 5 > 0.97
    assert (logits <= of_expected + 1e-5).all()


def test_short_list_reads_a_fraction_of_the_labels(table, clusters):
    most = np.sort(clusters.sizes)[-N_PROBED:].sum()
    assert most < len(table[1]) / 4


@pytest.mark.parametrize("k", [65, 5000])
def test_short_list_many_labels_are_found_exactly(table, clusters, states, k):
    expected = best_labels(states, *table, k)
    for found, wanted in zip(clusters.best_labels(states, *table, k), expected, strict=True):
        assert torch.equal(found, wanted)


def test_short_list_few_clusters_are_searched_exactly(table, states):
    few = table[0][:50], table[1][:50]
    expected = best_labels(states, *few, 5)
    for found, wanted in zip(
        ShortList(*few, n_probed=N_PROBED).best_labels(states, *few, 5), expected, strict=True
    ):
        assert torch.equal(found, wanted)


def test_short_list_is_the_same_every_time(table, clusters):
    assert torch.equal(ShortList(*table, n_probed=N_PROBED).by_cluster, clusters.by_cluster)


def test_short_list_half_precision_embeddings_score_in_the_precision_of_states(
    table, clusters, states
):
    half = table[0].bfloat16()
    _, logits = clusters.best_labels(states.bfloat16(), half, table[1], 5)
    _, expected = clusters.best_labels(states, *table, 5)
    torch.testing.assert_close(logits, expected, atol=0.3, rtol=0.03)


def test_predict_topk_approximate_uses_short_list_of_current_weights(monkeypatch):
    tiny = functools.partial(ShortList, n_probed=3)
    monkeypatch.setattr(module, "ShortList", tiny)
    clf = make_classifier("direct", label_search="approximate").fit(X, Y)
    copied = serving_copy(clf.network_, torch.float32)
    assert copied not in module._built
    labels, scores = clf.predict_topk(X, k=3)
    built = module._built[copied]
    assert short_list(copied) is built
    everything = clf.set_params(label_search="exact").decision_function(X).toarray()
    np.testing.assert_allclose(scores, np.take_along_axis(everything, labels, 1), atol=1e-6)
    assert (scores[:, 0] <= everything.max(axis=1) + 1e-6).all()
    with torch.no_grad():
        clf.network_.label_table.weight.mul_(2)
    clf.set_params(label_search="approximate").predict_topk(X, k=3)
    assert short_list(serving_copy(clf.network_, torch.float32)) is not built


def test_predict_topk_approximate_diverged_model_raises_value_error():
    clf = make_classifier("direct", label_search="approximate", max_epochs=1).fit(X, Y)
    with torch.no_grad():
        clf.network_.label_table.weight[0] = torch.nan
    with pytest.raises(ValueError, match="The scores are NaN: training has diverged"):
        clf.predict_topk(X, k=3)


@pytest.mark.parametrize("mode", ["two-stage", "direct"])
def test_predict_topk_approximate_without_need_equals_exact(mode):
    """Two stages have clusters of their own, and few labels are searched exactly."""
    clf = make_classifier(mode).fit(X, Y)
    exact = clf.predict_topk(X, k=4)
    approximate = clf.set_params(label_search="approximate").predict_topk(X, k=4)
    assert np.array_equal(exact.labels, approximate.labels)
    np.testing.assert_allclose(exact.scores, approximate.scores, atol=1e-6)

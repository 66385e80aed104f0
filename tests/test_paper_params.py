"""The paper's parameter sets match its table 1, and models train with them."""

import numpy as np
import pytest
from classifier_fixtures import dataset, encoder_path

from skxmc import LightXMLClassifier, paper_params

X, Y = dataset()
# Table 1 as printed: epochs, batch size, bottleneck dimension, labels per cluster, tokens.
PRINTED = {
    "eurlex-4k": (20, 16, None, 1, 512),
    "amazoncat-13k": (5, 16, None, 1, 512),
    "wiki10-31k": (30, 16, None, 1, 512),
    "wiki-500k": (10, 32, 500, 60, 128),
    "amazon-670k": (15, 16, 400, 80, 128),
}
N_LABELS = {"wiki-500k": 501_008, "amazon-670k": 670_091}


@pytest.mark.parametrize("name", PRINTED)
def test_paper_params_each_data_set_match_table_1(name):
    params = paper_params(name)
    epochs, batch, dim, cluster_size, tokens = PRINTED[name]
    found = (params["max_epochs"], params["batch_size"], params["max_length"])
    assert found == (epochs, batch, tokens)
    assert params.get("bottleneck_dim") == dim
    assert params["swa_start"] < epochs
    size = params["clusterer"].max_cluster_size
    if dim is None:
        assert size == cluster_size == 1
    else:
        n_clusters = 2 ** int(np.ceil(np.log2(N_LABELS[name] / size)))
        assert n_clusters == 8192
        assert abs(N_LABELS[name] / n_clusters - cluster_size) < 3


# From the authors' command lines: first epoch of weight averaging, steps between averages, number
# of candidate clusters.
PUBLISHED = {
    "eurlex-4k": (10, 200, None),
    "amazoncat-13k": (2, 10_000, None),
    "wiki10-31k": (10, 300, None),
    "wiki-500k": (4, 3000, 32),
    "amazon-670k": (4, 3000, 75),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_paper_params_each_data_set_match_published_commands(name):
    params = paper_params(name)
    names = ("swa_start", "swa_every", "n_candidate_clusters")
    assert tuple(params.get(name) for name in names) == PUBLISHED[name]


@pytest.mark.parametrize("name", PRINTED)
def test_paper_params_each_data_set_have_one_constant_learning_rate(name):
    params = paper_params(name)
    assert (params["learning_rate"], params["head_learning_rate"]) == (1e-4, None)
    assert (params["lr_schedule"], params["warmup_fraction"]) == ("constant", 0)


@pytest.mark.parametrize("name", PRINTED)
def test_paper_params_each_data_set_train_as_in_paper(name):
    """The paper has one constant rate of 1e-4, no warm-up and dropout 0.5."""
    params = {**paper_params(name.upper()), "encoder": encoder_path()}
    clf = LightXMLClassifier(**{**params, "max_epochs": 2, "swa_start": 1, "n_feature_layers": 2})
    clf.set_params(max_length=32, random_state=0, device="cpu").fit(X, Y)
    assert [epoch["learning_rate"] for epoch in clf.history_] == [1e-4, 1e-4]
    assert clf.network_.direct == (params["bottleneck_dim"] is None)
    assert clf.network_.dropout.p == 0.5
    # Cross-entropies of coin tosses, because random heads know nothing.
    kind = "rank" if clf.network_.direct else "recall"
    per_cluster = clf.history_[0][f"{kind}_loss"] / clf.network_.layout.n_clusters
    assert per_cluster == pytest.approx(np.log(2), rel=0.2)


def test_paper_params_changed_result_leaves_next_call_unchanged():
    params = paper_params("eurlex-4k")
    params["clusterer"].max_cluster_size = 3
    params["max_epochs"] = 1
    assert paper_params("eurlex-4k")["clusterer"].max_cluster_size == 1
    assert paper_params("eurlex-4k")["max_epochs"] == 20


@pytest.mark.parametrize("name", ["eurlex", None, ["eurlex-4k"]], ids=str)
def test_paper_params_unknown_data_set_raise_error(name):
    with pytest.raises(ValueError, match=r"dataset must be one of 'eurlex-4k', .*'amazon-670k'"):
        paper_params(name)

"""Recipe of the LightXML paper for each of its five data sets."""

from __future__ import annotations

from typing import Any

from skxmc._clusterer import BalancedLabelClusterer
from skxmc._utils.quoting import quoted

# Parameters of all five data sets (section "Experiments" of the paper).
COMMON: dict[str, Any] = {
    "encoder": "bert-base-uncased",
    "n_feature_layers": 5,
    "dropout": 0.5,
    "encoder_dropout": None,
    "negative_sampling": "dynamic",
    "head_init": "random",
    "learning_rate": 1e-4,
    "head_learning_rate": None,
    "weight_decay": 0.01,
    "warmup_fraction": 0.0,
    "lr_schedule": "constant",
    "pooling": "cls",
}
# Parameters of table 1. No table has swa_start, swa_every and n_candidate_clusters. They come from
# the command lines that the authors published.
TABLE_1: dict[str, dict[str, Any]] = {
    "eurlex-4k": {
        "max_epochs": 20,
        "batch_size": 16,
        "max_length": 512,
        "bottleneck_dim": None,
        "max_cluster_size": 1,
        "swa_start": 10,
        "swa_every": 200,
    },
    "amazoncat-13k": {
        "max_epochs": 5,
        "batch_size": 16,
        "max_length": 512,
        "bottleneck_dim": None,
        "max_cluster_size": 1,
        "swa_start": 2,
        "swa_every": 10_000,
    },
    "wiki10-31k": {
        "max_epochs": 30,
        "batch_size": 16,
        "max_length": 512,
        "bottleneck_dim": None,
        "max_cluster_size": 1,
        "swa_start": 10,
        "swa_every": 300,
    },
    "wiki-500k": {
        "max_epochs": 10,
        "batch_size": 32,
        "max_length": 128,
        "bottleneck_dim": 500,
        "max_cluster_size": 62,
        "n_candidate_clusters": 32,
        "swa_start": 4,
        "swa_every": 3000,
    },
    "amazon-670k": {
        "max_epochs": 15,
        "batch_size": 16,
        "max_length": 128,
        "bottleneck_dim": 400,
        "max_cluster_size": 82,
        "n_candidate_clusters": 75,
        "swa_start": 4,
        "swa_every": 3000,
    },
}


def paper_params(dataset: str) -> dict[str, Any]:
    """Return the parameters that train `LightXMLClassifier` as in the paper.

    Use them to repeat the paper's tables, or as a baseline. The defaults of `LightXMLClassifier`
    score higher in less time. Read more in the user guide: :doc:`/guide/ensembles`.

    Parameters
    ----------
    dataset : {"eurlex-4k", "amazoncat-13k", "wiki10-31k", "wiki-500k", "amazon-670k"}
        Row of table 1, in upper or lower case.

    Returns
    -------
    dict
        Keyword arguments of `LightXMLClassifier`, a new dict at each call.

    Raises
    ------
    ValueError
        If `dataset` is none of these.

    Notes
    -----
    The paper's cluster size C of 60 and 80 labels is a mean. The model sizes of its table 6 fit
    8,192 clusters, and clusters of at most 62 and 82 labels give this number.

    The implementation differs from the paper in these points:

    - Positives that the recall head (the paper's generator) misses are ranked too. They never count
      as negatives.
    - Dropout stays on in training. The authors' script turns it off at its first evaluation.
    - The bottleneck is linear, but eq. 4 has a sigmoid.
    - Labels have biases.
    - A step changes only those embeddings of labels and words that it reads.
    - Weight decay spares biases and layer norms. The paper's sentence decays only these.
    - Labels are clustered by TF-IDF features of words.
    - A batch holds texts of similar length.
    - ``precision="auto"`` is bf16 if the device has it, and fp32 otherwise. The paper uses mixed
      precision with fp16.

    Examples
    --------
    >>> from skxmc import LightXMLClassifier, paper_params
    >>> params = paper_params("amazon-670k")
    >>> params["bottleneck_dim"], params["clusterer"]
    (400, BalancedLabelClusterer(max_cluster_size=82))
    >>> clf = LightXMLClassifier(**params)
    """
    name = str(dataset).lower()
    if name not in TABLE_1:
        raise ValueError(
            f"dataset must be one of {', '.join(map(repr, TABLE_1))}, got {quoted(dataset)}."
        )
    of_set = dict(TABLE_1[name])
    clusterer = BalancedLabelClusterer(max_cluster_size=of_set.pop("max_cluster_size"))
    return {**COMMON, **of_set, "clusterer": clusterer}

"""Run the classifiers of skxmc with their defaults, and LightXML by the paper's recipe."""

import joblib
from _peer import N_THREADS, TOP, main

from skxmc import (
    LightXMLClassifier,
    NeighborsClassifier,
    OmikujiClassifier,
    make_classifier,
    paper_params,
)


def make(system, options):
    """Make the classifier of this name."""
    encoder = options["encoder"]
    if system == "skxmc-words":
        return OmikujiClassifier(n_jobs=N_THREADS)
    if system == "skxmc-neighbors":
        return NeighborsClassifier(encoder)
    if system == "skxmc-lightxml":
        return LightXMLClassifier(encoder, random_state=0)
    if system == "skxmc-lightxml-paper":
        recipe = paper_params(options["paper"])
        return LightXMLClassifier(**{**recipe, "encoder": encoder}, random_state=0)
    fine_tune = system == "skxmc-ensemble"
    return make_classifier(encoder, fine_tune=fine_tune, n_jobs=N_THREADS, random_state=0)


def train(system, data):
    model = make(system, data.options).fit(data.X, data.y)
    joblib.dump(model, data.folder / "model.joblib")
    return lambda X: model.predict_topk(X, k=TOP).labels


if __name__ == "__main__":
    main(train)

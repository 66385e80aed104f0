"""Run the classifiers of skxmc with their defaults, and LightXML by the paper's recipe."""

import joblib
from _peer import N_THREADS, TOP, main

from skxmc import (
    LightXMLClassifier,
    LightXMLEnsemble,
    NeighborsClassifier,
    OmikujiClassifier,
    paper_params,
)


def make(system, options):
    """Make the classifier of this name."""
    encoder = options["encoder"]
    words = OmikujiClassifier(n_jobs=N_THREADS)
    near = NeighborsClassifier(encoder)
    language = LightXMLClassifier(encoder, random_state=0)
    if system == "skxmc-words":
        return words
    if system == "skxmc-neighbors":
        return near
    if system == "skxmc-words-neighbors":
        return LightXMLEnsemble([("words", words), ("near", near)])
    if system == "skxmc-lightxml":
        return language
    if system == "skxmc-lightxml-paper":
        recipe = paper_params(options["paper"])
        return LightXMLClassifier(**{**recipe, "encoder": encoder}, random_state=0)
    members = [("language", language), ("words", words)]
    return LightXMLEnsemble(members, fusion="learned", random_state=0)


def train(system, data):
    model = make(system, data.options).fit(data.X, data.y)
    joblib.dump(model, data.folder / "model.joblib")
    return lambda X: model.predict_topk(X, k=TOP).labels


if __name__ == "__main__":
    main(train)

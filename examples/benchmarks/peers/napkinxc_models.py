"""Run napkinXC's one-vs-rest models and label trees."""

from _peer import N_THREADS, TOP, labels_of_rows, learn_words, main
from napkinxc.models import BR, PLT

SETTINGS = {
    # Squared hinge loss, and weights below 0.01 are dropped, as in DiSMEC's paper.
    "one-vs-rest": (BR, {"loss": "l2", "liblinear_c": 1, "weights_threshold": 0.01}),
    "plt": (PLT, {"ensemble": 3}),
}


def train(system, data):
    vectorizer, features = learn_words(data)
    kind, settings = SETTINGS[system]
    model = kind(output=str(data.folder / "model"), seed=0, threads=N_THREADS, **settings)
    model.fit(features, labels_of_rows(data.y))
    model.load()
    return lambda X: model.predict(vectorizer.transform(X), top_k=TOP)


if __name__ == "__main__":
    main(train)

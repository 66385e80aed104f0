"""Run XR-Linear of PECOS with the ranker's settings of XR-Transformer's recipe for wiki10-31k."""

from _peer import N_THREADS, TOP, best_of_csr, learn_words, main
from pecos.xmc import Indexer, LabelEmbeddingFactory
from pecos.xmc.xlinear.model import XLinearModel


def train(system, data):
    vectorizer, features = learn_words(data)
    y = data.y.tocsc()
    centroids = LabelEmbeddingFactory.create(y, features, method="pifa")
    model = XLinearModel.train(
        features,
        y,
        C=Indexer.gen(centroids, nr_splits=16, max_leaf_size=16, threads=N_THREADS),
        rel_mode="induce",
        rel_norm="l1",
        negative_sampling_scheme="tfn+man",
        Cp=4.0,
        Cn=1.0,
        threshold=0.001,
        threads=N_THREADS,
        beam_size=100,
        only_topk=100,
        post_processor="l3-hinge",
    )
    model.save(str(data.folder / "model"))

    def predict(X):
        words = vectorizer.transform(X)
        words.sort_indices()
        return best_of_csr(model.predict(words, only_topk=TOP, threads=N_THREADS))

    return predict


if __name__ == "__main__":
    main(train)

"""Run omikuji's label trees. Its README gives these settings."""

import numpy as np
import omikuji
from _peer import N_THREADS, TOP, learn_words, main
from sklearn.datasets import dump_svmlight_file

SETTINGS = {
    "parabel": {},
    "bonsai": {"cluster_balanced": False, "cluster_k": 100, "max_depth": 3},
    "attentionxml-tree": {"collapse_every_n_layers": 5},
}


def train(system, data):
    vectorizer, features = learn_words(data)
    has_words = np.diff(features.indptr) > 0  # omikuji cannot read lines without features
    features, y = features[has_words], data.y[has_words]
    path = data.folder.parent / "train.txt"
    with open(path, "wb") as file:
        file.write(f"{features.shape[0]} {features.shape[1]} {y.shape[1]}\n".encode())
        dump_svmlight_file(features, y, file, multilabel=True)
    settings = omikuji.Model.default_hyper_param()
    for name, value in SETTINGS[system].items():
        setattr(settings, name, value)
    model = omikuji.Model.train_on_data(str(path), settings, N_THREADS)
    model.save(str(data.folder / "trees"))

    def predict(X):
        model.init_prediction_thread_pool(N_THREADS)
        for row in vectorizer.transform(X):
            pairs = zip(row.indices.tolist(), row.data.tolist(), strict=True)
            yield [label for label, _ in model.predict(pairs, top_k=TOP)]

    return predict


if __name__ == "__main__":
    main(train)

"""Run XR-Transformer of PECOS with its recipe for wiki10-31k, as epochs of these texts."""

import math

from _peer import N_THREADS, TOP, best_of_csr, encoder_rate, learn_words, load_tokenizer, main
from pecos.xmc import Indexer, LabelEmbeddingFactory
from pecos.xmc.xtransformer.model import XTransformer
from pecos.xmc.xtransformer.module import MLProblemWithText

# Epochs of a level of the tree and of the last one: 1,000 and 400 steps of 32 for 14,146 texts.
EPOCHS, LAST_EPOCHS = 2.26, 0.9
MATCHER = {
    "negative_sampling": "tfn+man",
    "loss_function": "weighted-squared-hinge",
    "bootstrap_method": "weighted-linear",
    "threshold": 0.001,
    "batch_size": 32,
    "max_active_matching_labels": 1000,
    "cost_sensitive_ranker": True,
    "batch_gen_workers": N_THREADS,  # with 0, products of matrices crash
}
RANKER = {"threshold": 0.001, "Cp": 4.0, "Cn": 1.0, "threads": N_THREADS}


def train(system, data):
    vectorizer, features = learn_words(data)
    features.sort_indices()
    _, length = load_tokenizer(data)
    clusters = {"nr_splits": 16, "max_leaf_size": 16, "threads": N_THREADS}
    tree = Indexer.gen(
        LabelEmbeddingFactory.create(data.y, features, method="pifa"), min_codes=128, **clusters
    )
    matchers = []
    for level in range(len(tree)):
        epochs = LAST_EPOCHS if level == len(tree) - 1 else EPOCHS
        n_steps = math.ceil(epochs * len(data.X) / MATCHER["batch_size"])
        rates = {"learning_rate": encoder_rate(data), "warmup_steps": n_steps // 10}
        encoder = {"model_shortcut": data.options["encoder"], "max_steps": n_steps}
        matchers.append({**MATCHER, **encoder, **rates, "save_steps": n_steps})
    of_tokens = {"truncate_length": min(length, 256), "ensemble_method": "concat-only"}
    hinge = {"post_processor": "l3-hinge"}
    linear = {"neg_mining_chain": "tfn+man", "model_chain": RANKER}
    train_params = {
        "preliminary_indexer_params": {"min_codes": 128, **clusters},
        "refined_indexer_params": clusters,
        "matcher_params_chain": matchers,
        "ranker_params": {"rel_mode": "induce", "rel_norm": "l1", "hlm_args": linear},
    }
    pred_params = {
        "matcher_params_chain": [{"only_topk": 20, **hinge, **of_tokens} for _ in tree],
        "ranker_params": {"hlm_args": {"model_chain": {"only_topk": 100, **hinge}}},
    }
    model = XTransformer.train(
        MLProblemWithText(data.X, data.y, X_feat=features),
        clustering=tree,
        train_params=XTransformer.TrainParams.from_dict(train_params, recursive=True),
        pred_params=XTransformer.PredParams.from_dict(pred_params, recursive=True),
        beam_size=100,
        threads=N_THREADS,
    )
    model.save(str(data.folder / "model"))

    def predict(X):
        words = vectorizer.transform(X)
        words.sort_indices()
        options = {"only_topk": TOP, "batch_gen_workers": N_THREADS, "threads": N_THREADS}
        return best_of_csr(model.predict(X, words, **options))

    return predict


if __name__ == "__main__":
    main(train)

"""Run XML-CNN and BERT of LibMultiLabel with its examples for EUR-Lex and EUR-Lex-57k."""

from _libmultilabel import CPU, MAX_WORDS, hold_out, load_words, split_words
from _peer import TOP, encoder_rate, load_tokenizer, main
from libmultilabel.nn.data_utils import get_dataset_loader
from libmultilabel.nn.model import Model
from libmultilabel.nn.nn_utils import init_device, init_model, init_trainer, set_seed

WIDEST_FILTER = 8
XML_CNN = {
    "model_name": "XMLCNN",
    "learning_rate": 0.0005,
    "init_weight": "kaiming_uniform",
    "val_metric": "P@1",
    "network_config": {
        "embed_dropout": 0.2,
        "post_encoder_dropout": 0.2,
        "filter_sizes": [2, 4, WIDEST_FILTER],
        "hidden_dim": 512,
        "num_filter_per_size": 256,
        "num_pool": 2,
    },
}
BERT = {
    "model_name": "BERT",
    "optimizer": "adamw",
    "weight_decay": 0.001,
    "val_metric": "nDCG@5",
}


def train(system, data):
    set_seed(0)
    device = init_device(CPU)
    if system == "bert":
        tokenizer, length = load_tokenizer(data)
        reader = {"tokenizer": tokenizer, "max_seq_length": length}
        config = {"network_config": {"lm_weight": data.options["encoder"]}}
        settings = {**BERT, "learning_rate": encoder_rate(data), **config}
        epochs, batch_size = 15, 8
    else:
        words, vectors = load_words(split_words(data.X), data.options["word_vectors"])
        reader = {"word_dict": words, "max_seq_length": MAX_WORDS}
        settings = {**XML_CNN, "embed_vecs": vectors}
        epochs, batch_size = 50, 64
    classes = list(range(data.y.shape[1]))

    def read(X):
        return X if system == "bert" else split_words(X, WIDEST_FILTER)

    def load(part, **options):
        return get_dataset_loader(part, classes, device, data_workers=0, **reader, **options)

    model = init_model(
        **settings,
        classes=classes,
        monitor_metrics=["P@1", "nDCG@5"],
        silent=True,
        save_k_predictions=TOP,
    )
    metric = settings["val_metric"]
    trainer = init_trainer(data.folder, epochs, 5, metric, metric, silent=True, use_cpu=CPU)
    parts = hold_out(read(data.X), data.y)
    batches = load(parts["train"], batch_size=batch_size, shuffle=True)
    trainer.fit(model, batches, load(parts["val"], batch_size=256))
    (data.folder / "last.ckpt").unlink()
    best = Model.load_from_checkpoint(data.folder / "best_model.ckpt", weights_only=False)

    def predict(X):
        rows = [{"text": text, "label": []} for text in read(X)]
        for batch in trainer.predict(best, load(rows, batch_size=256)):
            yield from batch["top_k_pred"]

    return predict


if __name__ == "__main__":
    main(train)

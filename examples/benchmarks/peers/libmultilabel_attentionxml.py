"""Run AttentionXML of LibMultiLabel with its example for EUR-Lex."""

import math
from pathlib import Path

from _libmultilabel import CPU, MAX_WORDS, hold_out, load_words, split_words
from _peer import TOP, main
from libmultilabel.common_utils import AttributeDict
from libmultilabel.nn.attentionxml import PLTTrainer
from libmultilabel.nn.nn_utils import set_seed

CLUSTER_SIZE, BEAM_WIDTH = 8, 64


def train(system, data):
    set_seed(0)
    file = data.options["word_vectors"]
    texts = split_words(data.X)
    words, vectors = load_words(texts, file)
    n_labels = data.y.shape[1]
    n_clusters = 2 ** math.ceil(math.log2(n_labels / CLUSTER_SIZE))
    config = AttributeDict(
        multiclass=False,
        cluster_size=CLUSTER_SIZE,
        beam_width=min(BEAM_WIDTH, n_clusters),
        max_seq_length=min(MAX_WORDS, max(map(len, texts))),
        network_config={
            "embed_dropout": 0.2,
            "post_encoder_dropout": 0.5,
            "rnn_dim": 512,
            "linear_size": [256],
            "freeze_embed_training": bool(file),
        },
        loss_function="binary_cross_entropy_with_logits",
        optimizer="adam",
        learning_rate=0.001,
        momentum=0.9,
        weight_decay=0,
        lr_scheduler=None,
        scheduler_config=None,
        cpu=CPU,
        epochs=30,
        limit_train_batches=1.0,
        limit_val_batches=1.0,
        limit_test_batches=1.0,
        silent=True,
        early_stopping_metric="nDCG@5",
        patience=30,
        val_metric="nDCG@5",
        checkpoint_dir=str(data.folder),
        metric_threshold=0.5,
        monitor_metrics=["P@1", "nDCG@5"],
        shuffle=True,
        batch_size=40,
        eval_batch_size=40,
        data_workers=0,
        save_k_predictions=TOP,
        log_path=str(data.folder.parent / "log.json"),
        predict_out_path=str(data.folder.parent / "predictions.txt"),
    )
    trainer = PLTTrainer(config, list(range(n_labels)), vectors, words)
    trainer.fit(hold_out(texts, data.y))
    (data.folder / "last.ckpt").unlink()

    def predict(X):
        trainer.test([{"text": text, "label": []} for text in split_words(X)])
        lines = Path(config.predict_out_path).read_text().splitlines()
        return [[int(pair.split(":")[0]) for pair in line.split()] for line in lines]

    return predict


if __name__ == "__main__":
    main(train)

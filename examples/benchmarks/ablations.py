"""Repeat the paper's comparisons on one data set: negatives, layers, SWA, ensembles.

    python examples/benchmarks/ablations.py DATA_DIR --texts 20000 --max-cluster-size 16

Static negatives train one head after the other, for `max_epochs` epochs each. So dynamic negatives
are measured with the same number of epochs, and with twice as many. With twice as many, both use
the same number of passes through the encoder. Members of an ensemble differ only in the seed of
their clusters. In the direct mode, which has no clusters, they differ in `random_state`.
"""

import argparse

from _measure import HEADER, add_arguments, load, make_classifier, row, seconds
from sklearn.base import clone

from skxmc import BalancedLabelClusterer, LightXMLEnsemble

ROWS = ("negatives", "layers", "averaging", "ensemble")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_arguments(parser)
    parser.add_argument("--only", nargs="+", choices=ROWS, default=ROWS)
    arguments = parser.parse_args()
    data = load(arguments)
    base = make_classifier(arguments)
    print(base.__repr__(N_CHAR_MAX=10_000))
    print(HEADER)

    def run(what, **changes):
        model = clone(base).set_params(**changes)
        started = seconds()
        model.fit(data.X_train, data.y_train)
        minutes = (seconds() - started) / 60
        print(row(what, model, data, minutes), flush=True)
        return model, minutes

    first, minutes = run("dynamic negatives")
    epochs = first.n_iter_
    if "negatives" in arguments.only:
        run(f"dynamic negatives, {2 * epochs} epochs", max_epochs=2 * epochs)
        run(f"BS, {epochs} epochs for each head", negative_sampling="static-separate")
        run(f"S, {epochs} epochs for each head", negative_sampling="static")
    if "layers" in arguments.only:
        run("one layer", n_feature_layers=1)
    if "averaging" in arguments.only:
        run("constant rates", lr_schedule="constant")
        run("constant rates, SWA", lr_schedule="constant", swa_start=epochs // 2, swa_every=10)
    if "ensemble" in arguments.only:
        members = [("member 0", first)]
        for seed in (1, 2):
            if first.network_.direct:
                member, more = run(f"seed {seed}", random_state=seed)
            else:
                clusterer = clone(base.clusterer or BalancedLabelClusterer())
                clusterer.set_params(random_state=seed)
                member, more = run(f"other clusters, seed {seed}", clusterer=clusterer)
            members.append((f"member {seed}", member))
            minutes += more
        model = LightXMLEnsemble.from_fitted(members)
        print(row("ensemble of three", model, data, minutes), flush=True)


if __name__ == "__main__":
    main()

"""Train on a data set that `load_xmc` reads, and print P@k, PSP@k and the minutes it took.

python examples/benchmarks/accuracy.py DATA_DIR --max-cluster-size 32 --set max_epochs=1
"""

import argparse
import json
import time
from typing import Any

from skxmc import BalancedLabelClusterer, LightXMLClassifier
from skxmc.datasets import load_xmc
from skxmc.metrics import label_propensities, precision_at_k, psp_at_k


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="folder of the data set")
    parser.add_argument("--encoder", default="sentence-transformers/all-MiniLM-L6-v2")
    parser.add_argument("--max-cluster-size", type=int, help="1 is the direct mode")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of LightXMLClassifier; repeat for more",
    )
    return parser.parse_args()


def value_of(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def main() -> None:
    arguments = parse()
    data = load_xmc(arguments.data)
    parameters = {"random_state": 0, "verbose": 1, "encoder": arguments.encoder}
    parameters |= {name: value_of(text) for name, text in (s.split("=", 1) for s in arguments.set)}
    if arguments.max_cluster_size:
        parameters["clusterer"] = BalancedLabelClusterer(arguments.max_cluster_size)
    clf = LightXMLClassifier(**parameters)

    started = time.perf_counter()
    clf.fit(data.X_train, data.y_train)
    minutes = (time.perf_counter() - started) / 60
    started = time.perf_counter()
    top = clf.predict_topk(data.X_test, k=5)
    milliseconds = 1000 * (time.perf_counter() - started) / len(data.X_test)

    propensities = label_propensities(data.y_train)
    p = [100 * precision_at_k(data.y_test, top, k=k) for k in (1, 3, 5)]
    psp = [100 * psp_at_k(data.y_test, top, k=k, propensities=propensities) for k in (1, 3, 5)]
    print(clf)
    print("clusters:", clf.clusterer_.n_clusters_, "labels:", clf.n_labels_)
    print("test P@1/3/5:   " + " / ".join(f"{x:.1f}" for x in p))
    print("test PSP@1/3/5: " + " / ".join(f"{x:.1f}" for x in psp))
    print(f"training: {minutes:.1f} minutes; prediction: {milliseconds:.2f} ms a text")


if __name__ == "__main__":
    main()

"""Compare P@k, latency and size of a trained classifier by precision of prediction and of files.

python examples/benchmarks/optimizers.py --only full --save FOLDER
python examples/benchmarks/precision.py FOLDER/full.joblib

The model is of ICD-10-CM. The script predicts its test texts.
"""

import argparse
import tempfile
import time
from pathlib import Path

import joblib
import numpy as np
from _common import cpu_name

from skxmc import LightXMLClassifier
from skxmc.datasets import load_icd10cm
from skxmc.metrics import label_propensities, precision_at_k, psp_at_k


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--single", type=int, default=300, help="texts to predict one at a time")
    arguments = parser.parse_args()
    data = load_icd10cm()
    clf = joblib.load(arguments.model)
    print(cpu_name())
    print("prediction | P@1 / 3 / 5 | PSP@5 | ms per text, batches of 64 | ms, one at a time")
    for precision in ("fp32", "bf16", "int8"):
        clf.set_params(precision=precision)
        print(f"{precision} | {measure(clf, data, arguments.single)}", flush=True)
    clf.set_params(precision="fp32")
    print("\nfile | P@1 / 3 / 5 | PSP@5 | ms per text, batches of 64 | ms, one at a time | MB")
    for dtype in ("float32", "float16", "int8"):
        with tempfile.TemporaryDirectory() as folder:
            clf.save_pretrained(folder, dtype=dtype)
            size = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file()) / 1e6
            loaded = LightXMLClassifier.from_pretrained(folder)
            print(f"{dtype} | {measure(loaded, data, arguments.single)} | {size:.1f}", flush=True)


def measure(clf: LightXMLClassifier, data, n_single: int) -> str:
    """Measure P@k and latencies, as cells of a table."""
    clf.predict_topk(data.X_test[:64])
    started = time.perf_counter()
    top = clf.predict_topk(data.X_test, k=5)
    milliseconds = 1000 * (time.perf_counter() - started) / len(data.X_test)
    p = " / ".join(f"{100 * precision_at_k(data.y_test, top, k=k):.2f}" for k in (1, 3, 5))
    propensities = label_propensities(data.y_train)
    psp = 100 * psp_at_k(data.y_test, top, k=5, propensities=propensities)
    times = []
    for text in data.X_test[:n_single]:
        started = time.perf_counter()
        clf.predict_topk([text], k=5)
        times.append(1000 * (time.perf_counter() - started))
    return f"{p} | {psp:.2f} | {milliseconds:.2f} | {np.median(times):.1f}"


if __name__ == "__main__":
    main()

"""
Behind an HTTP endpoint
=======================

This example saves a trained model to a folder and serves it from another process. That process
needs no network, no GPU, and none of the extras of training. It runs the HTTP server of Python.
With FastAPI and others, loading and prediction are the same two lines.
"""

# %%
# Train and save
# --------------
# The folder holds JSON, safetensors in half precision, and the tokenizer. It holds no pickle.

import tempfile
from pathlib import Path

from skxmc import LightXMLClassifier
from skxmc.datasets import load_icd10cm

data = load_icd10cm(chapters=[10])
clf = LightXMLClassifier(
    "sentence-transformers/all-MiniLM-L6-v2",
    max_length=32,
    freeze_encoder=True,  # trains only the heads, which takes seconds
    max_epochs=4,
    random_state=0,
)
clf.fit(data.X_train, data.y_train, label_names=data.label_names)
folder = tempfile.TemporaryDirectory()
model = Path(folder.name) / "model"
clf.save_pretrained(model, dtype="float16")
size = sum(path.stat().st_size for path in model.rglob("*") if path.is_file())
print(f"{size / 1e6:.0f} MB")

# %%
# The server
# ----------
# This is the whole server. It loads the model, warms it up with a text, prints its port, and
# answers.

SERVER = """
import json, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from skxmc import LightXMLClassifier

clf = LightXMLClassifier.from_pretrained(sys.argv[1])
clf.predict_topk(["warm up"], k=1)


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        try:
            labels, scores = clf.predict_topk(json.loads(body), k=3)
        except (TypeError, ValueError) as error:  # not JSON, or not a list of texts
            status, answer = 400, {"error": str(error)}
        else:
            scores = scores.astype(float).round(4).tolist()
            status, answer = 200, [dict(zip(*row)) for row in zip(labels.tolist(), scores)]
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
"""
script = Path(folder.name) / "serve.py"
_ = script.write_text(SERVER)

# %%
# A client
# --------

import json
import subprocess
import sys
import time
from urllib.request import Request, urlopen

server = subprocess.Popen([sys.executable, script, model], stdout=subprocess.PIPE, text=True)
port = int(server.stdout.readline())


def ask(texts):
    return json.load(urlopen(Request(f"http://127.0.0.1:{port}", json.dumps(texts).encode())))


texts = ["stuffy nose", "flu"]
for text, answer in zip(texts, ask(texts), strict=True):
    print(text, answer)

# %%
# The latency, with one text per request:

import matplotlib.pyplot as plt

times = []
for text in data.X_test[:100]:
    started = time.perf_counter()
    ask([text])
    times.append(1000 * (time.perf_counter() - started))
print(f"median {sorted(times)[50]:.0f} ms, slowest {max(times):.0f} ms")

fig, ax = plt.subplots(figsize=(6.4, 3.2), layout="constrained")
ax.hist(times, bins=20)
_ = ax.set(xlabel="Milliseconds for a text over HTTP", ylabel="Number of texts")

server.terminate()
_ = server.wait()
server.stdout.close()
folder.cleanup()

"""``skxmc serve``: a page and a JSON endpoint for a model, until Ctrl-C."""

from __future__ import annotations

import argparse
from contextlib import closing

from skxmc._cli.model import load_model
from skxmc._serving.server import ModelServer
from skxmc._utils.paths import user_path
from skxmc._utils.warnings import warn_user


def run(args: argparse.Namespace) -> None:
    """Load the model, warm it up, listen, print the address and answer requests."""
    clf = load_model(args)
    clf.predict_topk(["the first call converts weights"], k=1)
    name = user_path(args.model).resolve().name
    with closing(ModelServer(clf, name, args.host, args.port)) as server:
        if not server.is_local:
            warn_user(
                f"Anyone who can reach {args.host} over the network can use the model, without a "
                "password. Leave out --host to serve this machine alone."
            )
        print(f"Serving {name} at {server.url} (Ctrl-C stops it)", flush=True)
        server.serve_forever()

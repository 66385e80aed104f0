"""The command line: `skxmc serve`."""

import _thread
import json
import re
import threading
import urllib.request

import pytest
from classifier_fixtures import fitted
from command_line_fixtures import run_main

from skxmc._serving.server import ModelServer


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "tagger"
    fitted().save_pretrained(folder)
    return folder


@pytest.fixture
def health(monkeypatch):
    """Ask for the health of the server as soon as it runs, then press Ctrl-C."""
    answers = []
    serve_forever = ModelServer.serve_forever

    def ask_and_stop(server):
        with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/health") as response:
            answers.append(json.load(response))
        _thread.interrupt_main()

    def serve(server):
        threading.Thread(target=ask_and_stop, args=(server,)).start()
        serve_forever(server, 0.05)

    monkeypatch.setattr(ModelServer, "serve_forever", serve)
    return answers


def test_serve_prints_its_address_and_answers_until_ctrl_c(model, health, capsys):
    code, out, err = run_main(capsys, "serve", model, "--port", 0)
    assert (code, err) == (130, "\nskxmc: interrupted\n")
    assert re.fullmatch(r"Serving tagger at http://127\.0\.0\.1:\d+ \(Ctrl-C stops it\)\n", out)
    assert health == [{"status": "ok", "model": "tagger", "labels": 30}]
    names = {thread.name for thread in threading.enumerate()}
    assert "skxmc-batcher" not in names


@pytest.mark.filterwarnings("always")
def test_serve_to_the_network_warns(model, health, capsys):
    code, out, err = run_main(capsys, "serve", model, "--port", 0, "--host", "0.0.0.0")
    assert code == 130
    assert "Serving tagger at http://0.0.0.0:" in out
    assert err.startswith("skxmc: warning: Anyone who can reach 0.0.0.0 over the network can use")
    assert len(health) == 1


def test_serve_port_in_use_is_an_error_in_one_line(model, capsys):
    taken = ModelServer(fitted(), "other", port=0)
    code, out, err = run_main(capsys, "serve", model, "--port", taken.port)
    taken.close()
    assert (code, out) == (1, "")
    assert err.startswith(f"skxmc: error: Cannot listen at '127.0.0.1', port {taken.port}: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize("port", ["-1", "65536", "http", "²"])
def test_serve_other_than_a_port_is_wrong_usage(port, model, capsys):
    code, _, err = run_main(capsys, "serve", model, f"--port={port}")
    assert code == 2
    assert err.endswith(f"{port!r} is not a port from 0 to 65535\n")

"""The paths for Annif. `test_other_systems.py` asks them by Annif itself."""

import copy

import pytest
from classifier_fixtures import dataset, fitted
from serving_fixtures import ask, serving

TEXT = dataset()[0][0]
SUGGEST = ("POST", "/annif/suggest")
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture(scope="module")
def clf():
    """Return a classifier whose labels are URIs, in brackets as in corpora of Annif."""
    named = copy.copy(fitted())
    named.classes_ = named.classes_.astype(object)
    named.classes_[:] = [f"<http://example.org/{i}>" for i in range(30)]
    return named


@pytest.fixture(scope="module")
def server(clf):
    with serving(clf) as started:
        yield started


@pytest.mark.parametrize(
    ("sent", "n_labels"), [("", 30), ("&limit=3", 3), ("&limit=100&metadata_title=a%26b", 30)]
)
def test_suggest_returns_best_uris_up_to_the_limit(sent, n_labels, server, clf):
    body = f"text={TEXT.replace(' ', '+')}{sent}".encode()
    status, _, found = ask(server, *SUGGEST, body, FORM)
    labels, scores = clf.predict_topk([TEXT], k=n_labels)
    assert (status, list(found)) == (200, ["results"])
    uris = [hit["uri"] for hit in found["results"]]
    assert uris == [label.strip("<>") for label in labels[0]]
    assert [hit["score"] for hit in found["results"]] == pytest.approx(scores[0].tolist())


def test_suggest_sends_at_most_100_labels(server, monkeypatch):
    monkeypatch.setattr("skxmc._serving.annif.MAX_K", 10)
    for body in (b"text=", b"text=&limit=11"):
        assert len(ask(server, *SUGGEST, body, FORM)[2]["results"]) == 10


def test_suggest_reads_text_that_is_not_ascii(server, clf):
    body = b"text=na%C3%AFve+%F0%9F%8D%8F+%FF&limit=1"
    found = ask(server, *SUGGEST, body, FORM)[2]["results"]
    expected = clf.predict_topk(["naïve \U0001f34f �"], k=1)
    assert found[0]["score"] == pytest.approx(expected.scores[0, 0])


def test_project_is_trained(server):
    assert ask(server, "GET", "/annif")[::2] == (200, {"is_trained": True})


@pytest.mark.parametrize(
    ("body", "headers", "status", "words"),
    [
        (b"limit=3", FORM, 400, "The form has no text. Send text=... and, if needed, limit=10."),
        (b"text=&limit=ten", FORM, 400, "limit is 'ten'. Send a whole number."),
        (b"text=&limit=0", FORM, 400, "limit is 0, but must be a whole number from 1."),
        (b"text=", {}, 415, "The content type is not application/x-www-form-urlencoded. Send such"),
        (b"text=", {**FORM, "Origin": "null"}, 403, "This path is for Annif, not for pages in a"),
    ],
)
def test_wrong_suggest_is_answered_by_what_to_do(body, headers, status, words, server):
    found, _, answer = ask(server, *SUGGEST, body, headers)
    assert found == status
    assert words in answer["error"]

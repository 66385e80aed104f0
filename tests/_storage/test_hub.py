"""push_to_hub and from_pretrained of a repository, against a stand-in of the Hugging Face Hub."""

import copy
import functools
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from classifier_fixtures import assert_same_predictions, dataset, encoder_path, fitted
from classifier_fixtures import make_classifier as quick_classifier
from hub_stand_in import Hub
from huggingface_hub import constants
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline

import skxmc
from skxmc import (
    LightXMLClassifier,
    LightXMLEnsemble,
    NeighborsClassifier,
    OmikujiClassifier,
    TextEncoder,
)
from skxmc._storage.model_card import model_card

X, Y = dataset()


@pytest.fixture(scope="module")
def server():
    hub = Hub()
    with hub.running() as address:
        yield hub, address


@pytest.fixture
def hub(server, tmp_path, monkeypatch):
    """Return the stand-in, without repositories, which huggingface_hub takes for the Hub."""
    hub, address = server
    hub.repos, hub.requests, hub.is_down = {}, [], False
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_TOKEN", "token-of-user")
    return hub


@functools.cache
def neighbors():
    encoder = TextEncoder(encoder_path(), max_length=16, precision="fp32")
    return NeighborsClassifier(encoder, n_neighbors=5).fit(X, Y)


def forget_cache(tmp_path):
    shutil.rmtree(tmp_path / "cache")


# ---------------------------------------------------------------- there and back


def test_pushed_classifier_loads_with_same_predictions(hub):
    url = fitted().push_to_hub("user/tagger")
    assert url.startswith("https://huggingface.co/user/tagger/commit/")
    assert_same_predictions(LightXMLClassifier.from_pretrained("user/tagger"), fitted())
    loaded = skxmc.from_pretrained("user/tagger", token="token-of-other")
    assert_same_predictions(loaded, fitted())
    assert not hub.repos["user/tagger"].private


@pytest.mark.parametrize(
    "make",
    [
        lambda: LightXMLEnsemble.from_fitted([("a", fitted()), ("b", neighbors())]),
        lambda: make_pipeline("passthrough", neighbors()),
    ],
    ids=["ensemble", "pipeline"],
)
def test_other_estimators_load_with_same_predictions(make, hub):
    clf = make()
    skxmc.push_to_hub(clf, "user/tagger")
    loaded = skxmc.from_pretrained("user/tagger")
    assert repr(loaded) == repr(clf)
    for found, expected in zip(
        skxmc.predict_topk(loaded, X, k=3), skxmc.predict_topk(clf, X, k=3), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_text_encoder_loads_with_same_vectors(hub):
    encoder = neighbors().encoder_
    encoder.push_to_hub("user/encoder")
    loaded = TextEncoder.from_pretrained("user/encoder")
    np.testing.assert_array_equal(loaded.transform(X), encoder.transform(X))


def test_second_push_replaces_the_model_in_one_commit_and_keeps_the_card(hub, tmp_path):
    fitted().push_to_hub("user/tagger", dtype="int8")
    repo = hub.repos["user/tagger"]
    first = repo.files()
    repo.commit("main", {**first, "README.md": b"my card", "LICENSE": b"mine"})
    n_commits = len(repo.commits)
    neighbors().push_to_hub("user/tagger")
    assert len(repo.commits) == n_commits + 1
    now = repo.files()
    assert (now["README.md"], now["LICENSE"]) == (b"my card", b"mine")
    assert len({name.split("/")[0] for name in now if name.startswith("content-")}) == 1
    assert type(skxmc.from_pretrained("user/tagger")) is NeighborsClassifier
    neighbors().push_to_hub("user/tagger", replace_card=True)
    assert b"NeighborsClassifier" in repo.files()["README.md"]


def test_revision_is_a_branch_to_write_and_a_branch_or_commit_to_load(hub):
    fitted().push_to_hub("user/tagger")
    for _ in range(2):  # the branch is new, then there
        url = neighbors().push_to_hub("user/tagger", revision="near")
    assert type(skxmc.from_pretrained("user/tagger")) is LightXMLClassifier
    assert type(skxmc.from_pretrained("user/tagger", revision="near")) is NeighborsClassifier
    commit = url.split("/")[-1]
    assert type(NeighborsClassifier.from_pretrained("user/tagger", revision=commit)) is (
        NeighborsClassifier
    )


def test_name_without_owner_is_of_the_owner_of_the_token(hub):
    url = neighbors().push_to_hub("tagger", private=True, token="token-of-other")
    assert "other/tagger" in url
    assert hub.repos["other/tagger"].private
    assert b'from_pretrained("other/tagger")' in hub.repos["other/tagger"].files()["README.md"]


def test_files_beside_the_model_are_not_downloaded(hub, tmp_path):
    fitted().push_to_hub("user/tagger")
    repo = hub.repos["user/tagger"]
    repo.commit("main", {**repo.files(), "data/train.csv": b"1"})
    skxmc.from_pretrained("user/tagger")
    assert not list(Path(tmp_path).rglob("train.csv"))


def test_folder_goes_before_a_repository_of_its_name(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    neighbors().save_pretrained("user/tagger")
    assert type(skxmc.from_pretrained("user/tagger")) is NeighborsClassifier
    with pytest.raises(ValueError, match=r"^revision is given, but 'user/tagger' names a folder"):
        skxmc.from_pretrained("user/tagger", revision="main")
    with pytest.raises(ValueError, match=r"is not a saved model"):
        skxmc.from_pretrained(Path("user/none"))
    assert not hub.requests


# ---------------------------------------------------------------- the card


def head_of(card):
    _, head, _ = card.split("---\n", 2)
    return yaml.safe_load(head)


def test_card_of_a_classifier_has_head_use_facts_and_limits():
    clf = quick_classifier(max_epochs=2, early_stopping=True, n_iter_no_change=2).fit(X, Y)
    clf.history_[0]["valid_p_at_5"], clf.history_[1]["valid_p_at_5"] = 0.61239, 0.5
    card = model_card(clf, "user/tagger")
    assert head_of(card) == {
        "library_name": "skxmc",
        "pipeline_tag": "text-classification",
        "tags": ["multi-label", "extreme-multi-label-classification", "scikit-learn"],
        "metrics": ["precision_at_5"],
        "model-index": [
            {
                "name": "tagger",
                "results": [
                    {
                        "task": {"type": "text-classification"},
                        "dataset": {"name": "validation texts", "type": "own"},
                        "metrics": [{"type": "precision_at_5", "value": 0.6124}],
                    }
                ],
            }
        ],
    }
    for line in (
        'model = skxmc.from_pretrained("user/tagger")\n'
        'labels, scores = skxmc.predict_topk(model, ["your text"], k=5)\n',
        "- Labels: 30\n",
        "- Training texts: 57\n",  # of 64, 7 are held out
        "- precision_at_5 on validation texts: 0.6124\n",
        "- It reads the first 32 tokens of a text.\n",
    ):
        assert line in card
    clf.early_stopping = False  # then the last weights are kept
    assert "precision_at_5 on validation texts: 0.5000" in model_card(clf, "user/tagger")


def test_card_names_encoders_of_the_hub_and_given_metrics():
    language = LightXMLClassifier("all-MiniLM-L6-v2")
    vars(language).update(vars(fitted()), encoder="all-MiniLM-L6-v2")
    ensemble = LightXMLEnsemble.from_fitted([("a", language), ("b", neighbors())])
    card = model_card(ensemble, "user/tagger", {"ndcg_at_5": 0.75})
    head = head_of(card)
    assert head["base_model"] == ["sentence-transformers/all-MiniLM-L6-v2"]
    assert head["model-index"][0]["results"][0]["metrics"] == [{"type": "ndcg_at_5", "value": 0.75}]
    assert "- ndcg_at_5 on texts of the author: 0.7500\n" in card


def test_card_without_history_and_of_a_text_encoder():
    pytest.importorskip("omikuji")
    words = OmikujiClassifier().fit(["a cat", "a bond"], [["animals"], ["finance"]])
    card = model_card(words, "user/words")
    assert "model-index" not in head_of(card)
    assert "- Training texts: not recorded\n" in card
    card = model_card(neighbors().encoder_, "user/encoder")
    assert head_of(card)["pipeline_tag"] == "feature-extraction"
    assert 'vectors = model.transform(["your text"])' in card
    assert "- It reads the first 16 tokens of a text.\n" in card
    whole = copy.copy(neighbors().encoder_).set_params(long_text="windows")
    assert "It reads the first" not in model_card(whole, "user/encoder")


# ---------------------------------------------------------------- errors


def test_offline_loads_from_the_cache_or_raises(hub, tmp_path, monkeypatch):
    fitted().push_to_hub("user/tagger")
    skxmc.from_pretrained("user/tagger")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    hub.requests.clear()
    assert_same_predictions(skxmc.from_pretrained("user/tagger"), fitted())
    assert not hub.requests
    forget_cache(tmp_path)
    message = (
        r"^There is no folder 'user/tagger', no model of this name in the cache of the Hub, and "
        r"HF_HUB_OFFLINE is set. Unset it, or give a folder that save_pretrained has written.$"
    )
    with pytest.raises(ConnectionError, match=message):
        skxmc.from_pretrained("user/tagger")
    message = r"^'user/tagger' was not written: HF_HUB_OFFLINE is set. Unset it, and push again.$"
    with pytest.raises(ConnectionError, match=message):
        fitted().push_to_hub("user/tagger")


def test_incomplete_cache_offline_raises(hub, tmp_path, monkeypatch):
    fitted().push_to_hub("user/tagger")
    skxmc.from_pretrained("user/tagger")
    (weights,) = (tmp_path / "cache").rglob("weights.safetensors")
    weights.unlink()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConnectionError, match=r"HF_HUB_OFFLINE is set"):
        skxmc.from_pretrained("user/tagger")


def test_unreachable_hub_raises(hub, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # between retries
    address = "http://127.0.0.1:9"  # the port "discard", at which nothing listens
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    with pytest.raises(ConnectionError, match=f"no connection to {address}. Connect to the netw"):
        skxmc.from_pretrained("user/tagger")
    with pytest.raises(ConnectionError, match=r"^'user/tagger' was not written: there is no conn"):
        neighbors().push_to_hub("user/tagger")


def test_wrong_or_missing_token_raises(hub, monkeypatch):
    neighbors().push_to_hub("user/tagger", private=True)
    needs = r"^The Hub needs a valid token for 'user/tagger'\. Make one at .*/settings/tokens\. Log"
    with pytest.raises(PermissionError, match=needs):
        skxmc.from_pretrained("user/tagger", token="wrong")
    with pytest.raises(PermissionError, match=needs):
        neighbors().push_to_hub("user/tagger", token="wrong")
    with pytest.raises(PermissionError, match=r"^Your token may not write to 'user/tagger'. Give"):
        neighbors().push_to_hub("user/tagger", token="token-of-other")
    missing = r"^There is no folder 'user/tagger', and no repository of this name on the Hub that y"
    with pytest.raises(ValueError, match=missing):
        skxmc.from_pretrained("user/tagger", token="token-of-other")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(PermissionError, match=needs):
        neighbors().push_to_hub("user/tagger")
    with pytest.raises(ValueError, match=missing):
        skxmc.from_pretrained("user/tagger")


def test_gated_repository_raises(hub):
    neighbors().push_to_hub("user/tagger")
    hub.repos["user/tagger"].gated = True
    with pytest.raises(PermissionError, match=r"^'user/tagger' is for those who have accepted its"):
        skxmc.from_pretrained("user/tagger")


def test_unknown_revision_and_repository_without_model_raise(hub):
    neighbors().push_to_hub("user/tagger")
    with pytest.raises(ValueError, match=r"^'user/tagger' on the Hub has no such revision. Give a"):
        skxmc.from_pretrained("user/tagger", revision="none")
    hub.repos["user/tagger"].commit("main", {"config.json": b"{}"})
    with pytest.raises(ValueError, match=r"on the Hub is no model of skxmc: it has no skxmc.json"):
        skxmc.from_pretrained("user/tagger")


def test_other_class_and_damaged_file_raise(hub, tmp_path):
    neighbors().push_to_hub("user/tagger")
    with pytest.raises(ValueError, match=r"holds 'NeighborsClassifier', not LightXMLClassifier"):
        LightXMLClassifier.from_pretrained("user/tagger")
    repo = hub.repos["user/tagger"]
    files = {name: file[:-1] if "arrays" in name else file for name, file in repo.files().items()}
    repo.commit("main", files)
    with pytest.raises(ValueError, match=r"arrays\.safetensors' is damaged"):
        skxmc.from_pretrained("user/tagger")


def test_failing_hub_raises(hub):
    hub.is_down = True
    with pytest.raises(OSError, match=r"^The Hub failed at 'user/tagger' \(.*500.*Try again later"):
        neighbors().push_to_hub("user/tagger")


@pytest.mark.parametrize("name", ["a/b/c", "user/--x", "user name/x", ""])
def test_name_that_is_none_raises(name, hub):
    with pytest.raises(ValueError, match=r"is no name of a repository on the Hub: .*'user/name'\."):
        neighbors().push_to_hub(name)


def test_unfitted_estimator_sends_nothing(hub):
    with pytest.raises(NotFittedError):
        NeighborsClassifier().push_to_hub("user/tagger")
    with pytest.raises(ValueError, match=r"dtype must be one of"):
        neighbors().push_to_hub("user/tagger", dtype="float8")
    assert not hub.requests

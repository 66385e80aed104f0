"""Copies for prediction: shared weights, updates and int8."""

import copy
import gc

import numpy as np
import pytest
import torch
from classifier_fixtures import MODES, assert_same_predictions, dataset, fitted, make_classifier
from stopped_training import Stopped, stop_after

from skxmc import LightXMLClassifier, LightXMLEnsemble
from skxmc._inference import low_precision
from skxmc._inference.low_precision import serving_copy
from skxmc._model.device import autocast
from skxmc._model.tokens import tokenize
from skxmc._training.trainer import Trainer

X, Y = dataset()
CPU = torch.device("cpu")


@pytest.fixture(params=MODES)
def clf(request):
    return copy.deepcopy(fitted(request.param))


def scores_of(clf, network, dtype):
    tokens = tokenize(clf.tokenizer_, X, clf.max_length).batch(np.arange(len(X)))
    with torch.inference_mode(), autocast(CPU, dtype):
        return network.scores(network.represent(tokens), network.layout.n_clusters)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_serving_copy_scores_equal_autocast_of_network(clf, dtype):
    network = clf.network_
    expected_labels, expected = scores_of(clf, network, dtype)
    labels, found = scores_of(clf, serving_copy(network, dtype), dtype)
    assert torch.equal(labels, expected_labels)
    assert torch.equal(found, expected)


def test_serving_copy_converts_linear_layers_and_shares_the_rest(clf):
    network = clf.network_
    copied = serving_copy(network, torch.bfloat16)
    assert copied is not network
    linear = {
        f"{name}.{part}"
        for name, module in network.named_modules()
        if isinstance(module, torch.nn.Linear)
        for part in ("weight", "bias")
    }
    assert "bottleneck.weight" in linear
    if network.direct:  # which multiplies by the whole table
        linear.add("label_table.weight")
    originals = dict(network.state_dict(keep_vars=True))
    for name, tensor in copied.state_dict(keep_vars=True).items():
        if name in linear:
            assert tensor.dtype == torch.bfloat16, name
            assert not tensor.requires_grad
        else:
            assert tensor is originals[name], name
    assert all(tensor.dtype == torch.float32 for tensor in originals.values())


def test_serving_copy_of_training_network_is_in_evaluation_mode(clf):
    clf.network_.train()
    assert not serving_copy(clf.network_, torch.float32).training
    assert clf.network_.training
    assert all(module.training for module in clf.network_.encoder.modules())


def test_serving_copy_is_renewed_if_dtype_or_weights_change(clf):
    network = clf.network_
    first = serving_copy(network, torch.bfloat16)
    assert serving_copy(network, torch.bfloat16) is first
    assert serving_copy(network, torch.float32) is not first
    first = serving_copy(network, torch.bfloat16)
    with torch.no_grad():
        network.bottleneck.bias[0] += 1
    second = serving_copy(network, torch.bfloat16)
    assert second is not first
    assert second.bottleneck.bias[0] == network.bottleneck.bias[0].bfloat16()
    state = {name: tensor + 1 for name, tensor in network.state_dict().items()}
    network.load_state_dict(state)
    assert serving_copy(network, torch.bfloat16) is not second


def test_serving_copy_is_renewed_if_weights_change_during_copy(clf, monkeypatch):
    network, converted = clf.network_, low_precision._converted

    def converting(*args):
        copied = converted(*args)
        with torch.no_grad():  # as another thread might
            network.bottleneck.bias[0] += 1
        return copied

    with monkeypatch.context() as patch:
        patch.setattr(low_precision, "_converted", converting)
        serving_copy(network, torch.bfloat16)
    copied = serving_copy(network, torch.bfloat16)
    assert copied.bottleneck.bias[0] == network.bottleneck.bias[0].bfloat16()


def test_serving_copy_of_model_loaded_in_inference_mode_predicts(tmp_path):
    fitted().save_pretrained(tmp_path / "model")
    with torch.inference_mode():
        clf = LightXMLClassifier.from_pretrained(tmp_path / "model")
        assert_same_predictions(clf, fitted())
    assert_same_predictions(clf, fitted())


def test_serving_copy_is_freed_with_its_network(clf):
    gc.collect()  # networks of other tests
    before = len(low_precision._copies)
    serving_copy(clf.network_, torch.bfloat16)
    assert len(low_precision._copies) == before + 1
    del clf.network_
    gc.collect()
    assert len(low_precision._copies) == before


# ---------------------------------------------------------------- through the classifier


def likeness(a, b):
    """Compute the correlation of scores. Single scores of a tiny encoder differ by a lot."""
    return np.corrcoef(a.ravel(), b.ravel())[0, 1]


def test_set_params_precision_after_fit_changes_prediction_only(clf):
    in_fp32 = clf.decision_function(X).toarray()
    clf.set_params(precision="bf16")
    in_bf16 = clf.decision_function(X).toarray()
    assert np.abs(in_bf16 - in_fp32).max() > 0
    assert likeness(in_bf16, in_fp32) > 0.99
    clf.set_params(precision="fp32")
    np.testing.assert_array_equal(clf.decision_function(X).toarray(), in_fp32)
    assert clf.network_.bottleneck.weight.dtype == torch.float32


def test_int8_scores_correlate_with_fp32(clf):
    in_fp32 = clf.decision_function(X).toarray()
    clf.set_params(precision="int8")
    in_int8 = clf.decision_function(X).toarray()
    assert np.abs(in_int8 - in_fp32).max() > 0
    assert likeness(in_int8, in_fp32) > 0.9
    quantized = serving_copy(clf.network_, torch.int8)
    kept = [type(m) for m in quantized.modules() if type(m) is torch.nn.Linear]
    assert not kept
    assert clf.network_.bottleneck.weight.dtype == torch.float32  # the original is unchanged


def test_int8_copy_has_a_scale_per_label():
    network = copy.deepcopy(fitted().network_)
    with torch.no_grad():
        network.recall_head.weight[0] *= 1000
    weight = network.recall_head.weight.detach()
    found = serving_copy(network, torch.int8).recall_head.weight().dequantize()
    assert ((found - weight).abs() <= weight.abs().amax(dim=1, keepdim=True) / 127).all()


def test_int8_on_other_device_raises_value_error():
    network = copy.deepcopy(fitted().network_).to("meta")
    with pytest.raises(ValueError, match=r'precision="int8" is for CPUs\. Use "bf16"'):
        serving_copy(network, torch.int8)


def test_int8_torch_without_quantization_raises_value_error(clf, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch.ao.quantization", None)
    clf.set_params(precision="int8")
    with pytest.raises(ValueError, match=r"needs torch\.ao\.quantization, which this version"):
        clf.predict_topk(X[:2])


@pytest.mark.parametrize(
    "params", [{}, {"negative_sampling": "static"}, {"swa_start": 0, "lr_schedule": "constant"}]
)
def test_fit_trains_without_the_copies_that_represented_texts(monkeypatch, params):
    """Texts are represented for the start, for static negatives and for validation."""
    has_copy = []

    def noting(self, *args):
        networks = [self.network] + ([self.average.module] if self.average else [])
        has_copy.extend(network in low_precision._copies for network in networks)
        return step(self, *args)

    step = Trainer.train_step
    monkeypatch.setattr(Trainer, "train_step", noting)
    make_classifier(**params).fit(X, Y, validation_data=(X[:9], Y[:9]))
    assert has_copy
    assert not any(has_copy)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_fit_again_moves_previous_network_to_the_host(monkeypatch):
    clf = make_classifier(device="cuda").fit(X, Y)
    expected = clf.predict_topk(X, 3)
    stop_after(1, monkeypatch)
    with pytest.raises(Stopped):
        clf.fit(X, Y)
    assert {tensor.device.type for tensor in clf.network_.state_dict().values()} == {"cpu"}
    np.testing.assert_allclose(clf.predict_topk(X, 3).scores, expected.scores, atol=1e-4)
    assert {tensor.device.type for tensor in clf.network_.state_dict().values()} == {"cuda"}


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_ensemble_members_leave_gpu_until_prediction():
    clf = make_classifier(device="cuda", max_epochs=1)
    ensemble = LightXMLEnsemble([("a", clf), ("b", clf)]).fit(X, Y)
    networks = [member.network_ for member in ensemble.estimators_]
    assert [network.encoder.device.type for network in networks] == ["cpu", "cpu"]
    assert ensemble.predict_topk(X, 3).labels.shape == (len(X), 3)
    assert [network.encoder.device.type for network in networks] == ["cuda", "cuda"]


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_serving_copy_follows_network_to_another_device(clf):
    on_cpu = serving_copy(clf.network_, torch.bfloat16)
    clf.network_.place_on(torch.device("cuda"))
    on_gpu = serving_copy(clf.network_, torch.bfloat16)
    assert on_gpu is not on_cpu
    assert {tensor.device.type for tensor in on_gpu.state_dict().values()} == {"cuda"}

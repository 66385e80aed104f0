"""The pooling, tried before the encoder trains.

Encoders that were trained for the mean tell the texts of most sets apart by it. On others, the
states of [CLS] tell more, and training does not make up for the difference. So heads start at the
centroids of some texts in both ways, and held-out texts decide.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch

from skxmc._inference.low_precision import forget_copy
from skxmc._model.fitted import Model
from skxmc._training.evaluation import fit_predictor
from skxmc._training.initialization import Sample
from skxmc._training.settings import Settings
from skxmc._training.trainer import TrainingSet
from skxmc._training.trials import MIN_RATIO, MIN_TEXTS, Trial, is_worth_trying
from skxmc._utils.progress import progress_bar, show_line

OTHER_POOLING = "cls"
# Maximum number of texts to encode in both ways.
MAX_TEXTS = 4000


def choose_pooling(
    model: Model,
    data: TrainingSet,
    y: sp.csr_array,
    n_texts: int,
    settings: Settings,
    *,
    min_texts: int = MIN_TEXTS,
) -> str:
    """Choose the pooling whose centroids have the higher nDCG@5 on held-out texts.

    `OTHER_POOLING` must be better by more than chance. With a time limit, nothing is tried.

    Parameters
    ----------
    model : Model
        Model that is about to be trained, with the usual pooling. Its weights stay as they are.
    data : TrainingSet
        All training texts.
    y : csr_array of shape (n, n_labels)
        Their labels.
    n_texts : int
        Number of texts. The rows after them are texts about labels.
    settings : Settings
    min_texts : int, default=MIN_TEXTS

    Returns
    -------
    str
        The pooling of the network, or `OTHER_POOLING`.
    """
    network, usual = model.network, model.network.pooling
    if settings.deadline is not None or not is_worth_trying(network, n_texts, min_texts):
        return usual
    rows = np.random.default_rng(settings.seed).permutation(n_texts)[:MAX_TEXTS]
    show_line(settings.verbose, f"trying two poolings on {len(rows):,} texts")

    network.pooling = f"{usual}+{OTHER_POOLING}"  # for one pass of the encoder
    forget_copy(network)
    predictor = fit_predictor(model, settings, settings.dtype)
    with progress_bar(settings.verbose, desc="encoding texts", total=len(rows)) as bar:
        both = predictor.features(data.tokens.subset(rows), bar.update)
    network.pooling = usual
    forget_copy(network)

    def score(features: np.ndarray) -> float:
        trial = Trial(data, y, Sample(rows, features), settings)
        return trial.score(trial.start(network, np.random.default_rng(settings.seed)))

    gpus = [data.device] if data.device.type == "cuda" else []
    with torch.random.fork_rng(gpus):
        of_usual, of_other = (score(np.ascontiguousarray(e)) for e in np.split(both, 2, axis=1))
    chosen = OTHER_POOLING if MIN_RATIO * of_usual < of_other else usual
    show_line(
        settings.verbose,
        f'the pooling is "{chosen}": nDCG@5 of "{usual}" {100 * of_usual:.1f} %, '
        f'of "{OTHER_POOLING}" {100 * of_other:.1f} %',
    )
    return chosen

"""Plots of fitted models as scikit-learn's Display classes; they need the extra ``[plot]``.

The constructor of a display holds the data, `plot` draws them, into given axes or new ones;
``from_estimator`` does both, and so does ``from_predictions`` where predictions are all it takes.
matplotlib is imported when something is drawn.
"""

from skxmc.plotting._label_clusters import LabelClustersDisplay
from skxmc.plotting._label_frequency import LabelFrequencyDisplay
from skxmc.plotting._recall_ceiling import RecallCeilingDisplay
from skxmc.plotting._training_history import TrainingHistoryDisplay

__all__ = [
    "LabelClustersDisplay",
    "LabelFrequencyDisplay",
    "RecallCeilingDisplay",
    "TrainingHistoryDisplay",
]

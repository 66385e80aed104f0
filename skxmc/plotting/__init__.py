"""Plots of fitted models, as Display classes like those of scikit-learn.

They need the extra ``[plot]``. The constructor of a display takes the data, and `plot` draws them
into given or new axes. ``from_estimator`` and ``from_predictions`` do both. matplotlib is imported
when something is drawn.
"""

from skxmc.plotting._label_clusters import LabelClustersDisplay
from skxmc.plotting._label_frequency import LabelFrequencyDisplay
from skxmc.plotting._recall_ceiling import RecallCeilingDisplay
from skxmc.plotting._reliability import ReliabilityDisplay
from skxmc.plotting._training_history import TrainingHistoryDisplay

__all__ = [
    "LabelClustersDisplay",
    "LabelFrequencyDisplay",
    "RecallCeilingDisplay",
    "ReliabilityDisplay",
    "TrainingHistoryDisplay",
]

"""The network and what feeds it: PyTorch, without scikit-learn's estimators."""

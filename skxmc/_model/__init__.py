"""The network and its inputs, in PyTorch and without scikit-learn's estimators."""

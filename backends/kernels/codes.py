"""Numbers for the names of functions, which compiled kernels take instead."""

ACTIVATION_CODES = {"sigmoid": 0, "tanh": 1, "relu": 2}
LOSS_CODES = {"rashid": 0, "squared_error": 1, "binary_cross_entropy": 2, "cross_entropy": 3}

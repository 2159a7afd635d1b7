"""The network as scikit-learn's estimator, on every device.

The parameters are turned into a recipe; then `MLPClassifier` follows a training epoch by epoch, as
scikit-learn's own class does its own, and answers.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_random_state, compute_sample_weight
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted

from backends import select

from ..network import MLP
from ..recipes import smoothed_targets
from ..training import TrainingState
from .array_api import device_for, float_dtypes, like, on_host
from .fitting import Fitting
from .parameters import Plan

try:
    from sklearn.utils.validation import validate_data
except ImportError:  # before scikit-learn 1.6

    def validate_data(estimator: Any, *args: Any, **options: Any) -> Any:
        return estimator._validate_data(*args, **options)


try:
    from sklearn.callback import CallbackSupportMixin, with_callbacks
except ImportError:  # before scikit-learn 1.9

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Supports no callbacks."""

    def with_callbacks(method: Any) -> Any:
        return method


def _has_batches(estimator: MLPClassifier) -> bool:
    """Return whether a solver learns by batches, or raise AttributeError, for `available_if`."""
    if estimator.solver == "lbfgs":
        raise AttributeError("partial_fit is not for solver='lbfgs': take solver='adam' or 'sgd'")
    return True


class MLPClassifier(CallbackSupportMixin, ClassifierMixin, BaseEstimator):
    """Multi-layer perceptron classifier for scikit-learn, on the CPU or a GPU.

    Parameters and attributes that `sklearn.neural_network.MLPClassifier` has, too, mean the same:
    from the same initial weights and in the same order of the samples both learn the same weights,
    but for two classes, for which that one has one output and this one two.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int, default=(100,)
        Units of each hidden layer; ``()`` for none.
    activation : {"relu", "logistic", "tanh", "sigmoid", "scaled_tanh", "gelu"}, default="relu"
        Function of the hidden units; "sigmoid" is another name of "logistic".
    solver : {"adam", "sgd", "lbfgs"}, default="adam"
        How the weights are updated: by batches, or with "lbfgs" by all samples at once.
    alpha : float, default=0.0001
        Strength of the penalty α/(2b) ΣW² of a batch of b samples, biases excluded.
    batch_size : int or "auto", default="auto"
        Samples of a batch; "auto" is 200, or all samples where they are fewer.
    learning_rate : {"constant", "invscaling", "adaptive"}, default="constant"
        With solver "sgd": after t samples the rate is `learning_rate_init`, or that over
        ``(t + 1) ** power_t``; or it is divided by 5 whenever training would stop by `tol`.
    learning_rate_init : float, default=0.001
        Size of a step with "adam" and "sgd".
    power_t : float, default=0.5
        See `learning_rate`.
    max_iter : int, default=200
        Epochs at most; with "lbfgs" its iterations.
    shuffle : bool, default=True
        Whether to draw a new order of the samples every epoch.
    random_state : int, RandomState instance or None, default=None
        Determines the initial weights, the validation part, the orders and dropout.
    tol : float, default=0.0001
        Training stops when loss or validation score have not improved by this for
        `n_iter_no_change` epochs; with "lbfgs" where no component of the gradient is larger.
    verbose : bool, default=False
        Whether to print a line an iteration.
    warm_start : bool, default=False
        Whether `fit` begins with the weights of the last one.
    momentum : float, default=0.9
        μ of the velocity of "sgd", 0 or more and below 1.
    nesterovs_momentum : bool, default=True
        Whether it is Nesterov's.
    early_stopping : bool, default=False
        Whether to hold out `validation_fraction` of the samples, of each of two classes alike, to
        stop by their accuracy, weighted as the samples are, and to keep the weights where it was
        best.
    validation_fraction : float, default=0.1
        See `early_stopping`.
    beta_1, beta_2, epsilon : float, default=0.9, 0.999, 1e-8
        Of "adam".
    n_iter_no_change : int or numpy.inf, default=10
        See `tol`.
    max_fun : int, default=15000
        How often "lbfgs" computes the loss at most.
    class_weight : dict, "balanced" or None, default=None
        What `sample_weight` is multiplied by: a weight for each class, or such that all classes
        count the same.
    dropout, input_dropout : float, default=0.0
        Probability with which a hidden unit or an input is dropped while a sample is learned.
    batch_norm : bool, default=False
        Whether to normalise the hidden layers' sums over each batch.
    schedule : str, default="constant"
        How the rate changes up to the last epoch: "constant", "cosine", "one-cycle" or
        "step:FACTOR/EPOCHS". But for "constant" it is followed to its end: `tol` ends nothing
        unless `early_stopping` is set.
    averaging : float, default=0.0
        β of a moving average of the weights, which is what is kept: 0.999.
    clip : float or None, default=None
        Largest norm of a batch's gradients.
    device : str, default="auto"
        "cpu", "gpu", "gpu:1", … (or "cuda", "cuda:1", …); "auto" takes a GPU if there is one.
    recipe : str or None, default=None
        Name of a recipe (``python -m trainer recipes``). All of its network and its training is
        taken that no parameter changes: one that has its default value changes nothing. How it
        prepares data is not taken: inputs are what is given, and no image is deformed. As with a
        `schedule`, `tol` ends nothing unless `early_stopping` is set.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
    network_ : trainer.MLP
        The network, whose outputs are those of `classes_` in their order.
    coefs_, intercepts_ : list of ndarray
        The layers' weights, (fan_in, fan_out), and biases, (fan_out,): copies on the host, which
        are not to be written to. Assign a whole list to change the network.
    loss_ : float
        Mean loss, penalty included, of the last iteration's samples, each before its update.
    loss_curve_ : list of float
        That of every iteration.
    best_loss_ : float or None
        The least of them; None with `early_stopping`.
    validation_scores_, best_validation_score_ : list of float and float, or None
        Accuracies of the validation part with `early_stopping`.
    n_iter_ : int
        Iterations of the last fit.
    t_ : int
        Samples learned, each as often as it was.
    n_features_in_, n_layers_, n_outputs_ : int
    feature_names_in_ : ndarray of str
        Where X has names.
    out_activation_ : str
        "softmax", or "logistic" with a recipe whose outputs are sigmoids.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from trainer import MLPClassifier
    >>> X, y = load_digits(return_X_y=True)
    >>> MLPClassifier(device="cpu", random_state=0).fit(X[:1000], y[:1000]).score(X, y) > 0.9
    True
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: str = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        class_weight: Any = None,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        batch_norm: bool = False,
        schedule: str = "constant",
        averaging: float = 0.0,
        clip: float | None = None,
        device: str = "auto",
        recipe: str | None = None,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.solver = solver
        self.alpha = alpha
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.learning_rate_init = learning_rate_init
        self.power_t = power_t
        self.max_iter = max_iter
        self.shuffle = shuffle
        self.random_state = random_state
        self.tol = tol
        self.verbose = verbose
        self.warm_start = warm_start
        self.momentum = momentum
        self.nesterovs_momentum = nesterovs_momentum
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.beta_1 = beta_1
        self.beta_2 = beta_2
        self.epsilon = epsilon
        self.n_iter_no_change = n_iter_no_change
        self.max_fun = max_fun
        self.class_weight = class_weight
        self.dropout = dropout
        self.input_dropout = input_dropout
        self.batch_norm = batch_norm
        self.schedule = schedule
        self.averaging = averaging
        self.clip = clip
        self.device = device
        self.recipe = recipe

    # --- fitting ------------------------------------------------------------------------

    @with_callbacks
    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit the network to samples.

        Parameters
        ----------
        X : {array-like, sparse matrix}, shape (n_samples, n_features)
            Learned in float64, or in float32 if it is that.
        y : array-like, shape (n_samples,)
            Labels of any kind.
        sample_weight : array-like, shape (n_samples,), optional
            How much each sample counts, 0 or more.

        Returns
        -------
        MLPClassifier
            The estimator itself.

        Raises
        ------
        ValueError
            If a parameter is out of range, or the data does not fit.
        trainer.Diverged
            If the loss or a weight becomes NaN or infinite.
        backends.BackendUnavailable
            If there is no such device; take ``device="cpu"`` or "auto".
        """
        plan = Plan(self)
        is_first = not (self.warm_start and hasattr(self, "network_"))
        X, y = self._validated(X, y, is_first)
        classes = np.unique(y)
        if not is_first and set(classes) != set(self.classes_):
            raise ValueError(
                f"y has the classes {classes}: with warm_start=True expected those of the first"
                f" fit, {self.classes_}; take warm_start=False"
            )
        return self._fit(plan, X, y, sample_weight, classes, is_first)

    @available_if(_has_batches)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Self:
        """Learn each of some samples once; the optimiser remembers the calls before.

        Parameters
        ----------
        X : {array-like, sparse matrix}, shape (n_samples, n_features)
        y : array-like, shape (n_samples,)
        sample_weight : array-like, shape (n_samples,), optional
        classes : array-like, shape (n_classes,), optional
            All that there will ever be; needed at the first call.

        Returns
        -------
        MLPClassifier
            The estimator itself.
        """
        plan = Plan(self)
        if self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True: call fit")
        if self.class_weight == "balanced":
            raise ValueError(
                "class_weight='balanced' depends on all labels: partial_fit takes a dict, or fit"
            )
        if plan.recipe.rate_changes:
            raise ValueError(
                f"schedule={plan.recipe.schedule!r} depends on the number of epochs: partial_fit"
                " takes schedule='constant', or fit"
            )
        is_first = not hasattr(self, "network_")
        if is_first and classes is None:
            raise ValueError("classes is missing: the first call of partial_fit needs all classes")
        classes = self.classes_ if classes is None else np.unique(on_host(classes))
        if not is_first and not np.array_equal(classes, self.classes_):
            raise ValueError(f"classes={classes}: the first call had {self.classes_}")
        X, y = self._validated(X, y, is_first)
        unknown = np.setdiff1d(y, classes)
        if len(unknown):
            raise ValueError(f"y has {unknown}: expected classes among {classes}")
        return self._fit(plan, X, y, sample_weight, classes, is_first, is_partial=True)

    def _validated(self, X: Any, y: Any, is_first: bool) -> tuple[Any, np.ndarray]:
        """Check samples and labels as scikit-learn does."""
        options = {"accept_sparse": "csr", "dtype": float_dtypes(X), "reset": is_first}
        X, y = validate_data(self, X, on_host(y), **options)
        check_classification_targets(y)
        return X, y

    def _fit(
        self,
        plan: Plan,
        X: Any,
        y: np.ndarray,
        sample_weight: Any,
        classes: np.ndarray,
        is_first: bool,
        is_partial: bool = False,
    ) -> Self:
        weights = self._weights(y, sample_weight)
        data = {"X": X, "y": y}
        if sample_weight is not None:
            data["metadata"] = {"sample_weight": sample_weight}
        codes = np.searchsorted(classes, y)
        rng = check_random_state(self.random_state)
        held_out = None
        if self.early_stopping and not plan.is_full_batch:
            X, codes, weights, *held_out = self._split(X, codes, weights, rng, len(classes))
        seeds = rng.randint(2**31 - 1, size=2).tolist()
        if is_first or not is_partial:
            self._set_network(plan, X, len(classes), seeds[0], is_first)
        if is_first:
            self._begin(classes)
        self.network_.backend.make_current()
        fitting = Fitting(self, plan, (X, codes, weights), data)
        if plan.is_full_batch:
            fitting.minimize()
        else:
            fitting.learn(seeds[1], held_out, is_partial)
        return self

    def _weights(self, y: np.ndarray, sample_weight: Any) -> np.ndarray | None:
        """Return how much each sample counts, by its own weight and its class's, or None."""
        weights = None
        if sample_weight is not None:
            options = {"ensure_2d": False, "dtype": np.float64, "input_name": "sample_weight"}
            weights = check_array(on_host(sample_weight), **options)
            if weights.shape != y.shape or (weights < 0).any():
                given = f"shape {weights.shape}" if weights.shape != y.shape else weights.min()
                raise ValueError(
                    f"sample_weight has {given}: expected {len(y)} numbers of 0 or more, one a"
                    " sample"
                )
        if self.class_weight is None:
            return weights
        of_classes = compute_sample_weight(self.class_weight, y)
        return of_classes if weights is None else of_classes * weights

    def _split(self, X: Any, codes: np.ndarray, weights: Any, rng: Any, classes: int) -> list[Any]:
        """Hold out samples as scikit-learn's class does: return those to learn, then the others."""
        arrays = [X, codes] if weights is None else [X, codes, weights]
        stratify = codes if classes == 2 else None
        parts = train_test_split(
            *arrays, random_state=rng, test_size=self.validation_fraction, stratify=stratify
        )
        count = np.count_nonzero(parts[3] >= 0 if weights is None else parts[5])
        if count < 2:
            raise ValueError(
                f"early_stopping=True holds out {count} of {len(codes)} samples that count:"
                f" expected two at least; raise validation_fraction={self.validation_fraction}"
            )
        nothing = [None] if weights is None else []
        return [*parts[::2], *nothing, *parts[1::2], *nothing]

    def _set_network(self, plan: Plan, X: Any, classes: int, seed: int, is_first: bool) -> None:
        """Make the network, with the weights that it had if it is not the first."""
        recipe = plan.recipe
        options = {name: getattr(recipe, name) for name in ("activation", "loss", "bias", "init")}
        if recipe.label_smoothing:
            names = "target_low", "target_high"
            found = smoothed_targets(recipe.loss, classes, recipe.label_smoothing)
            options |= dict(zip(names, found, strict=True))
        network = MLP(
            [X.shape[1], *recipe.hidden, classes],
            backend=select(device_for(self.device, X)),
            seed=seed,
            dtype=str(X.dtype).rpartition(".")[2] if is_first else self.network_.dtype,
            scale=1.0,
            shift=0.0,
            l2=plan.alpha(X.shape[0]) if plan.is_full_batch else 0.0,
            **options,
        )
        if not is_first:
            old, new = self.network_.sizes, network.sizes
            if old != new or self.network_.spec.bias != network.spec.bias:
                raise ValueError(
                    f"warm_start=True continues a network of the layers {list(old)}: expected them"
                    f" instead of {list(new)}; take warm_start=False"
                )
            network.set_weights(self.network_.get_weights())
        self.network_: MLP = network
        self._state: TrainingState | None = None

    def _begin(self, classes: np.ndarray) -> None:
        """Set what is known of a network that has learned nothing."""
        self.classes_ = classes
        self.n_layers_ = len(self.network_.sizes)
        self.n_outputs_ = len(classes)
        is_softmax = self.network_.spec.output == "softmax"
        self.out_activation_ = "softmax" if is_softmax else "logistic"
        self.t_, self.n_iter_ = 0, 0
        self.loss_curve_: list[float] = []
        self._no_improvement = 0
        self.best_loss_ = self.best_validation_score_ = self.validation_scores_ = None

    # --- weights ------------------------------------------------------------------------

    @property
    def coefs_(self) -> list[np.ndarray]:
        """Copy the layers' weights to the host."""
        return self._layers()[0]

    @coefs_.setter
    def coefs_(self, arrays: Any) -> None:
        self._set_layers(arrays, self.intercepts_)

    @property
    def intercepts_(self) -> list[np.ndarray]:
        """Copy the layers' biases to the host; they are 0 where a recipe has none."""
        return self._layers()[1]

    @intercepts_.setter
    def intercepts_(self, arrays: Any) -> None:
        self._set_layers(self.coefs_, arrays)

    def _layers(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        arrays = self.network_.get_weights()
        coefs = [a for a in arrays if a.ndim == 2]
        biases = [a for a in arrays if a.ndim == 1]
        biases = biases or [np.zeros(W.shape[1], W.dtype) for W in coefs]
        for a in (*coefs, *biases):
            a.flags.writeable = False  # since the network would not change
        return coefs, biases

    def _set_layers(self, coefs: Any, intercepts: Any) -> None:
        has_biases = self.network_.spec.bias
        if not has_biases and any(np.any(b) for b in intercepts):
            raise ValueError(f"recipe={self.recipe!r} has no biases: intercepts_ are 0")
        pairs = zip(coefs, intercepts, strict=False)
        self.network_.set_weights([a for pair in pairs for a in pair] if has_biases else coefs)
        self._state = None

    # --- answers ------------------------------------------------------------------------

    def predict(self, X: Any) -> Any:
        """Return the likeliest class of each sample.

        Parameters
        ----------
        X : {array-like, sparse matrix}, shape (n_samples, n_features)

        Returns
        -------
        array, shape (n_samples,)
        """
        outputs = self._outputs(X)
        return like(self.classes_[np.argmax(outputs, axis=1)], X)

    def predict_proba(self, X: Any) -> Any:
        """Return the probability of each class; with a recipe's sigmoids each one's part of them.

        Parameters
        ----------
        X : {array-like, sparse matrix}, shape (n_samples, n_features)

        Returns
        -------
        array, shape (n_samples, n_classes)
        """
        return like(self._probabilities(X), X)

    def predict_log_proba(self, X: Any) -> Any:
        """Return the logarithm of `predict_proba`.

        Parameters
        ----------
        X : {array-like, sparse matrix}, shape (n_samples, n_features)

        Returns
        -------
        array, shape (n_samples, n_classes)
        """
        with np.errstate(divide="ignore"):
            return like(np.log(self._probabilities(X)), X)

    def _outputs(self, X: Any) -> np.ndarray:
        """Return the network's outputs of samples, checked as scikit-learn does it."""
        check_is_fitted(self, "network_")
        dtypes = float_dtypes(X)
        X = validate_data(self, X, accept_sparse="csr", dtype=dtypes, reset=False)
        backend = self.network_.backend
        backend.make_current()
        return backend.to_numpy(self.network_.predict_proba(X))

    def _probabilities(self, X: Any) -> np.ndarray:
        outputs = self._outputs(X)
        if self.out_activation_ == "softmax":
            return outputs
        sums = outputs.sum(axis=1, keepdims=True)
        return np.where(sums > 0, outputs / np.where(sums > 0, sums, 1), 1 / outputs.shape[1])

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

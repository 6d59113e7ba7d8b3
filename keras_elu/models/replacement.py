"""Replacing the activations of an existing model."""

import contextlib
import functools
import itertools

import keras

from keras_elu import layers

_RELUS = ("relu", "relu6")
# Layers that end with their activation, which can therefore be a layer that follows.
_ACTIVATED = (
    keras.layers.Dense,
    keras.layers.EinsumDense,
    *(
        getattr(keras.layers, kind + rank)
        for kind in ("Conv", "DepthwiseConv", "SeparableConv")
        for rank in ("1D", "2D", "3D")
        if hasattr(keras.layers, kind + rank)
    ),
    *(getattr(keras.layers, f"Conv{rank}DTranspose") for rank in (1, 2, 3)),
)


def replace_activations(model: keras.Model, activation="elu") -> keras.Model:
    """Returns a copy of a functional or sequential model that has another activation for its ReLUs.

    The function replaces `keras.layers.ReLU` layers, activation layers and calls of `keras.ops`
    that are "relu" or "relu6", and the same as the `activation` of a dense or convolutional layer,
    which a new layer then follows; also in nested models. It replaces ReLUs with a bound, slope or
    threshold of their own too, such as ReLU6 and the hard sigmoid of MobileNetV3. It does not see
    inside custom layers. If the new activation is itself a ReLU, only plain ReLUs change.

    The copy has the weights and the strategy of the model, which does not change. A new layer has
    the name of the layer that it replaces, or that name and `_activation`. Train the copy before
    use: weights that fit one activation do not fit another.

    Args:
        model: Functional or sequential, and built. The copy of a compiled model is compiled, with a
            new optimizer.
        activation: As in `keras_elu.layers.get`.

    Raises:
        ValueError: If the model is neither functional nor sequential, has a `call` of its own, is
            not built, is quantized, has no ReLU, or has a ReLU out of reach, as in a recurrent
            layer or in a subclass with a `call` of its own.

    Example:

    >>> model = keras.applications.MobileNetV2(input_shape=(32, 32, 3), weights=None)
    >>> replace_activations(model).get_layer("Conv1_relu").__class__.__name__
    'ELU'
    """
    if not _is_graph(model):
        raise ValueError(
            f"Activations can be replaced in a functional or a built sequential Keras model, not "
            f"in {model!r}."
        )
    copy = _Copy(layers.get(activation))
    with _scope(model):
        new = copy.model(model)
    if not copy.relus:
        raise ValueError(f"The model {model.name!r} has no ReLU to replace.")
    copy.weights()
    return new


class _Copy:
    """A copy of a model, and the copies of its layers."""

    def __init__(self, make_activation):
        self._make_activation = make_activation
        self._makes_relus = bool(_relu(make_activation()))
        self._parts = {}  # id of a layer: the layer, its copy, and the activation that follows
        self._following = {}  # id of a copy: the activation that follows
        self.relus = 0

    def model(self, model):
        """Copies a model; each call of a copied layer is followed by its activation, if any."""
        if type(model).call not in (keras.Sequential.call, _functional().call):
            raise ValueError(
                f"The model {model.name!r} has a `call` of its own, which a copy would lack: "
                "replace activations in the models that it calls."
            )
        if model.compiled:
            _check_compile_arguments(model)
        if isinstance(model, keras.Sequential):
            # DistributedModel goes by the name of Keras's class, and is made the same way.
            same = type(model).__module__ == keras.Sequential.__module__
            new = (type(model) if same else keras.Sequential)(name=model.name)
            (old,) = model.inputs
            new.add(keras.Input(batch_shape=old.shape, dtype=old.dtype, name=old.name))
            for layer in model.layers:
                for part in self._copied(layer):
                    new.add(part)
            if model.compiled:
                new.compile_from_config(model.get_compile_config())
        else:
            new = keras.models.clone_model(
                model,
                clone_function=lambda layer: self._copied(layer)[0],
                call_function=self._call,
            )
        if not model.trainable:
            new.trainable = False
        return new

    def weights(self):
        for old, new, *_ in self._parts.values():
            if isinstance(old, keras.layers.Layer) and not _is_graph(old) and old.weights:
                new.set_weights(old.get_weights())
                if isinstance(new, keras.layers.Normalization):
                    new.finalize_state()

    def _call(self, layer, *args, **kwargs):
        outputs = layer(*args, **kwargs)
        following = self._following.get(id(layer))
        return following(outputs) if following else outputs

    def _copied(self, layer) -> list:
        """The copy of a layer, made once however often the layer is called, and what follows."""
        if id(layer) not in self._parts:
            copies = self._copies(layer)
            self._parts[id(layer)] = (layer, *copies)
            self._following |= {id(a): b for a, b in itertools.pairwise(copies)}
        return list(self._parts[id(layer)][1:])

    def _copies(self, layer) -> list:
        if _is_graph(layer):
            return [self.model(layer)]
        if getattr(layer, "quantization_mode", None):
            raise ValueError(
                f"The layer {layer.name!r} is quantized: replace activations before quantization."
            )
        config = layer.get_config()
        relu = _relu(layer)
        self.relus += bool(relu)
        if not relu or (relu != "plain" and self._makes_relus):
            return [type(layer).from_config(config)]
        if relu == "inside":
            raise ValueError(
                f"The layer {layer.name!r} ({type(layer).__name__}) has a ReLU inside, where it "
                "cannot be replaced: replace it where the layer is made."
            )
        if not isinstance(layer, _ACTIVATED):
            return [self._activation(layer, layer.name)]
        regularizer = {"activity_regularizer": None} if layer.activity_regularizer else {}
        copy = type(layer).from_config({**config, "activation": "linear", **regularizer})
        return [copy, self._activation(layer, f"{layer.name}_activation")]

    def _activation(self, old, name):
        new = self._make_activation()
        new.name = name
        if isinstance(old, keras.layers.Layer):
            new.dtype_policy = old.dtype_policy
            if old.activity_regularizer:
                new.activity_regularizer = old.activity_regularizer
        else:
            new.dtype_policy = keras.DTypePolicy(old.output.dtype)
        return new


def _scope(model) -> contextlib.AbstractContextManager:
    """The scope of the TensorFlow strategy with which a model was made."""
    strategy = getattr(model, "distribute_strategy", None)
    return strategy.scope() if strategy is not None else contextlib.nullcontext()


@functools.cache
def _functional():
    """The class of functional models, which has no public name."""
    x = keras.Input((1,), name="x")
    return type(keras.Model(x, x, name="model"))


def _is_graph(layer) -> bool:
    """Whether a layer is a model that Keras knows the graph of."""
    if isinstance(layer, keras.Sequential):
        return layer.built and bool(layer.inputs)
    return isinstance(layer, keras.Model) and bool(getattr(layer, "inputs", None))


def _check_compile_arguments(model):
    try:
        keras.saving.deserialize_keras_object(model.get_compile_config())
    except (TypeError, ValueError):
        raise ValueError(
            f"The compile arguments of {model.name!r} cannot be copied: register functions and "
            "classes with keras.saving.register_keras_serializable, or compile only the copy."
        ) from None


def _relu(layer) -> str | None:
    """Returns which ReLU a layer is or ends with: "plain", "other", "inside" or None.

    "other" has a bound, a slope or a threshold of its own. "inside" is out of reach.
    """
    if not isinstance(layer, keras.layers.Layer):
        # keras.ops.relu called on a symbolic tensor; its class has no public name.
        return {"relu": "plain", "relu6": "other"}.get(type(layer).__name__.lower())
    config = layer.get_config()
    if isinstance(layer, keras.layers.ReLU):
        config = {"activation": {"class_name": "ReLU", "config": config}}
    if not _mentions_relu(config):
        return None
    kinds = (keras.layers.ReLU, keras.layers.Activation, *_ACTIVATED)
    if not any(isinstance(layer, kind) and type(layer).call is kind.call for kind in kinds):
        return "inside"
    activation = config["activation"]
    if not _mentions_relu({"activation": activation}):
        return "inside"
    settings = activation["config"] if isinstance(activation, dict) else {}
    own = (settings.get(name) for name in ("max_value", "negative_slope", "threshold"))
    return "other" if activation == "relu6" or any(own) else "plain"


def _mentions_relu(config) -> bool:
    if isinstance(config, dict):
        return config.get("class_name") == "ReLU" or any(
            (key.endswith("activation") and isinstance(value, str) and value in _RELUS)
            or _mentions_relu(value)
            for key, value in config.items()
        )
    return isinstance(config, (list, tuple)) and any(map(_mentions_relu, config))

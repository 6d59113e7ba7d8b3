"""Another activation in a model that exists."""

import itertools

import keras

from keras_elu import layers

_RELUS = ("relu", "relu6")
# Layers that end with their activation, so that it can as well be a layer that follows.
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
    """Returns a copy of a functional or sequential model with another activation for its ReLUs.

    Replaced are `keras.layers.ReLU` layers whatever their settings, activation layers and calls
    of `keras.ops` that are "relu" or "relu6", and these as the `activation` of a dense or a
    convolutional layer, where a layer of its own follows now; in nested models too. The copy has
    the weights of the model, which stays as it is. What a custom layer does inside is not seen,
    and a ReLU that serves as a hard sigmoid, as in MobileNetV3, is replaced like any other.

    A new layer has the name of the one it replaces, or that name and `_activation`. Train the
    copy before use: weights that fit one activation do not fit another.

    Args:
        model: Functional or sequential, and built. Where it is compiled, so is the copy, with a
            new optimizer.
        activation: As `keras_elu.layers.get` takes it.

    Raises:
        ValueError: If the model is neither functional nor sequential, is not built, has no ReLU,
            or has one that cannot be reached, as in a recurrent layer.

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
    new = copy.model(model)
    if not copy.replaced:
        raise ValueError(f"The model {model.name!r} has no ReLU to replace.")
    copy.weights()
    return new


class _Copy:
    """One copy of a model: what became of each of its layers."""

    def __init__(self, make_activation):
        self._make_activation = make_activation
        self._parts = {}  # id of a layer: the layer, its copy, and the activation that follows
        self._following = {}  # id of a copy: the activation that follows
        self.replaced = 0

    def model(self, model):
        """Copies a model; each call of a copied layer is followed by its activation, if any."""
        if isinstance(model, keras.Sequential):
            new = keras.Sequential(name=model.name)
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
        if _is_relu(layer):
            return [self._activation(layer, layer.name)]
        config = layer.get_config()
        if isinstance(layer, _ACTIVATED) and _mentions_relu({"activation": config["activation"]}):
            copy = type(layer).from_config({**config, "activation": "linear"})
            return [copy, self._activation(layer, f"{layer.name}_activation")]
        if isinstance(layer, keras.layers.Layer) and _mentions_relu(config):
            raise ValueError(
                f"The layer {layer.name!r} ({type(layer).__name__}) has a ReLU inside, where it "
                "cannot be replaced: replace it where the layer is made."
            )
        return [type(layer).from_config(config)]

    def _activation(self, old, name):
        self.replaced += 1
        new = self._make_activation()
        new.name = name
        if isinstance(old, keras.layers.Layer):
            new.dtype_policy = old.dtype_policy
        return new


def _is_graph(layer) -> bool:
    """Whether a layer is a model that Keras knows the graph of."""
    if isinstance(layer, keras.Sequential):
        return layer.built and bool(layer.inputs)
    return isinstance(layer, keras.Model) and bool(getattr(layer, "inputs", None))


def _is_relu(layer) -> bool:
    if isinstance(layer, keras.layers.Activation):
        return _mentions_relu(layer.get_config())
    if isinstance(layer, keras.layers.Layer):
        return isinstance(layer, keras.layers.ReLU)
    # keras.ops.relu called on a symbolic tensor; its class has no public name.
    return type(layer).__name__.lower() in _RELUS


def _mentions_relu(config) -> bool:
    if isinstance(config, dict):
        return config.get("class_name") == "ReLU" or any(
            (key.endswith("activation") and isinstance(value, str) and value in _RELUS)
            or _mentions_relu(value)
            for key, value in config.items()
        )
    return isinstance(config, (list, tuple)) and any(map(_mentions_relu, config))

"""Networks of keras.applications as classifiers of pixels."""

from collections.abc import Sequence

import keras

from keras_elu.models import units
from keras_elu.models.replacement import replace_activations


def application(
    network: str,
    input_shape: Sequence[int | None],
    classes: int,
    activation="relu",
    *,
    weights: str | None = None,
) -> keras.Model:
    """A network of `keras.applications` with a new last layer, which takes pixels from 0 to 255.

    Args:
        network: Name of the network, such as "ResNet50".
        input_shape: Height, width and channels, 1 or 3. A grey image counts as three equal colours.
        classes: Number of classes, positive.
        activation: Any activation that `keras_elu.layers.get` accepts, for its ReLUs. "relu" leaves
            the network as it is.
        weights: As in `keras.applications`. None: random.

    Input and output shape:
        `(batch, height, width, channels)`; logits, `(batch, classes)`.

    Raises:
        ValueError: If there is no such network, or it does not take such images.

    Example:

    >>> model = application("MobileNetV2", (32, 32, 1), classes=10, activation="elu")
    >>> model.output_shape, model.get_layer("Conv1_relu").__class__.__name__
    ((None, 10), 'ELU')
    """
    module = _module(network)
    classes = units.check_classes(classes)
    *size, channels = input_shape
    if channels not in (1, 3):
        raise ValueError(f"{network} takes images of 1 or 3 channels, not {channels}.")
    backbone = getattr(keras.applications, network)(
        include_top=False, weights=weights, input_shape=(*size, 3), pooling="avg"
    )
    if activation != "relu":
        backbone = replace_activations(backbone, activation)
    inputs = keras.Input(tuple(input_shape), name="images")
    x = ApplicationPixels(module, name="pixels")(inputs)
    x = backbone.call(x)  # unlike backbone(x), keeps all layers in one model
    logits = keras.layers.Dense(classes, name="logits", dtype=units.logits_dtype())(x)
    return keras.Model(inputs, logits, name=network)


@keras.saving.register_keras_serializable("keras_elu")
class ApplicationPixels(keras.layers.Layer):
    """Turns pixels from 0 to 255 into what a network of `keras.applications` was trained on.

    Args:
        module: Module of the network in `keras.applications`, whose `preprocess_input` is called.

    Input and output shape:
        `(batch, height, width, 1 or 3)`; `(batch, height, width, 3)`.

    Example:

    >>> ApplicationPixels("mobilenet_v2")(np.array([[[[0.0], [255.0]]]])).numpy().tolist()
    [[[[-1.0, -1.0, -1.0], [1.0, 1.0, 1.0]]]]
    """

    def __init__(self, module: str, **kwargs):
        super().__init__(**kwargs)
        self.module = module
        self.supports_jit = True

    def call(self, pixels):
        x = keras.ops.cast(pixels, self.compute_dtype)
        if pixels.shape[-1] == 1:
            x = keras.ops.repeat(x, 3, axis=-1)
        return getattr(keras.applications, self.module).preprocess_input(x)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], 3)

    def get_config(self):
        return {**super().get_config(), "module": self.module}


def _module(network: str) -> str:
    """The module of a network."""
    found = {
        member: name
        for name, module in vars(keras.applications).items()
        if hasattr(module, "preprocess_input")
        for member, value in vars(module).items()
        if callable(value) and member[0].isupper()
    }
    if network not in found:
        raise ValueError(
            f"keras.applications has no network {network!r}: it has {', '.join(sorted(found))}."
        )
    return found[network]

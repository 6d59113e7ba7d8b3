"""Image classifiers that take pixels and know the names of their classes."""

from collections.abc import Sequence

import keras


@keras.saving.register_keras_serializable("keras_elu")
class Classifier(keras.Model):
    """A functional model that maps pixels from 0 to 255 to logits, with the names of its classes.

    Trainers save classifiers as such. The attributes survive saving.

    Args:
        *args: `inputs`, for pixels, `outputs`, which are logits, and `name` of `keras.Model`.
        class_names: The name of each class, in the order of the logits. Empty: unknown.
        image_size: Height and width of the images that the model was evaluated on, in pixels.
            None: unknown.
        crop: Side of the square in the centre of a picture that is resized to the image, as a
            fraction of the shorter side. None: the whole picture is resized.
        **kwargs: Further arguments of `keras.Model`.

    Example:

    >>> x = keras.Input((8, 8, 1))
    >>> logits = keras.layers.Dense(2, kernel_initializer="zeros")(keras.layers.Flatten()(x))
    >>> model = Classifier(x, logits, class_names=["cat", "dog"], image_size=(8, 8))
    >>> pixels = np.zeros((1, 8, 8, 1), "uint8")
    >>> model.class_names[int(np.argmax(model(pixels)))]
    'cat'
    """

    def __init__(
        self,
        *args,  # without it, Keras 3.14.0 saves no layers
        class_names: Sequence[str] = (),
        image_size: Sequence[int] | None = None,
        crop: float | None = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self._class_names = tuple(map(str, class_names))
        self._image_size = None if image_size is None else tuple(map(int, image_size))
        self._crop = None if crop is None else float(crop)
        classes = self.output_shape[-1]
        if class_names and len(class_names) != classes:
            raise ValueError(
                f"class_names has {len(class_names)} names for {classes} logits: give one for each."
            )

    @property
    def class_names(self) -> tuple[str, ...]:
        """The name of each class, in the order of the logits."""
        return tuple(self._class_names)

    @property
    def image_size(self) -> tuple[int, int] | None:
        """Height and width of the images that the model was evaluated on, in pixels."""
        if self._image_size is None:
            return None
        height, width = self._image_size
        return height, width

    @property
    def crop(self) -> float | None:
        """Side of the central square of a picture, as a fraction of the shorter side."""
        return self._crop

    def get_config(self):
        return super().get_config() | {
            "class_names": list(self.class_names),
            "image_size": self.image_size and list(self.image_size),
            "crop": self.crop,
        }


def classifier(network: keras.Model, *preprocessing: keras.Layer, **description) -> Classifier:
    """Returns a network as a classifier that shares its layers and takes pixels from 0 to 255.

    Args:
        network: Functional, from one image to logits.
        *preprocessing: Layers that turn pixels into the network's inputs, in their order.
        **description: `class_names`, `image_size` and `crop` of `Classifier`.

    Example:

    >>> network = keras_elu.models.mnist_mlp((8, 8, 1), classes=2)
    >>> model = classifier(network, keras.layers.Rescaling(1 / 255), class_names=["cat", "dog"])
    >>> model.count_params() == network.count_params()
    True
    """
    pixels = x = keras.Input(network.input_shape[1:], name="images")
    for layer in preprocessing:
        x = layer(x)
    # Unlike network(x), keeps all layers in one model, where get_layer finds them.
    return Classifier(pixels, network.call(x), name=network.name, **description)

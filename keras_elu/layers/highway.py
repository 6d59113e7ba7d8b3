"""The gate of a highway layer."""

import keras


@keras.saving.register_keras_serializable("keras_elu")
class HighwayGate(keras.layers.Layer):
    """Mixes what a layer makes of its input with that input, by a gate.

    `y = t * h + (1 - t) * x` with `t = sigmoid(g)`, elementwise. A highway block is
    `HighwayGate()([activation(conv_h(x)), conv_g(x), x])`, with two layers of the same width. Give
    the second one a negative bias at the start, such as -2, with which the block passes most of its
    input on.

    Input and output shape:
        A list `[h, g, x]` of tensors of one shape: the transformed input, the gate before its
        sigmoid, and the input; the same shape.

    Raises:
        ValueError: If the input is not three tensors of one shape.

    Example:

    >>> h, g, x = np.array([[1.0]]), np.array([[0.0]]), np.array([[3.0]])
    >>> HighwayGate()([h, g, x]).numpy().tolist()
    [[2.0]]

    Reference:
        [Srivastava et al., 2015](https://arxiv.org/abs/1507.06228), section 2.
    """

    def build(self, input_shape):
        shapes = {tuple(shape) for shape in input_shape}
        if len(input_shape) != 3 or len(shapes) != 1:
            raise ValueError(
                f"The inputs have the shapes {list(input_shape)}: give [transformed, gate, input], "
                "three tensors of one shape."
            )
        self.built = True

    def call(self, inputs):
        transformed, gate, x = inputs
        return x + keras.ops.sigmoid(gate) * (transformed - x)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape[0])

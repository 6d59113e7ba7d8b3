"""The paper's theory as measurements of a network: bias shift, saturation and natural gradients.

Units with a mean activation other than zero act as a bias for the next layer. All functions take a
functional model and one batch, and run on every Keras backend. Sums and linear algebra are in
float64, as is the network itself unless a docstring says otherwise.

Reference: Clevert et al., 2016 (https://arxiv.org/abs/1511.07289), section 2.
"""

from keras_elu.diagnostics.callback import Diagnostics
from keras_elu.diagnostics.fisher import (
    FisherBlocks,
    dense_gradient,
    empirical_fisher_blocks,
    fisher_blocks,
    sample_labels,
)
from keras_elu.diagnostics.saturation import Activity, activations, activity, numbers, observer
from keras_elu.diagnostics.units import (
    Correction,
    bias_shift,
    correction,
    unit_means,
    unit_medians,
    variance_over_epochs,
)

__all__ = [
    "Activity",
    "Correction",
    "Diagnostics",
    "FisherBlocks",
    "activations",
    "activity",
    "bias_shift",
    "correction",
    "dense_gradient",
    "empirical_fisher_blocks",
    "fisher_blocks",
    "numbers",
    "observer",
    "sample_labels",
    "unit_means",
    "unit_medians",
    "variance_over_epochs",
]

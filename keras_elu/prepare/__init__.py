"""Prepares folders or archives of images as a TFDS data set: `python -m keras_elu.prepare`."""

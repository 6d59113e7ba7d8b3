"""Compares runs: `python -m keras_elu.report RUN [RUN ...]`."""

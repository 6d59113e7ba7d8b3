"""A report that compares runs: `python -m keras_elu.report RUN [RUN ...]`."""

"""Export of trained classifiers: `python -m keras_elu.export RUN OUT --to FORMAT`."""

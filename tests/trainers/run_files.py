"""What a complete run leaves in its folder."""

FILES = {
    "checkpoints",
    "class_names.json",
    "config.json",
    "environment.json",
    "examples.json",
    "history.csv",
    "model.keras",
    "result.json",
    "tensorboard",
}

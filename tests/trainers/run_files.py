"""What a complete run leaves in its folder, next to its checkpoint and TensorBoard's logs."""

FILES = {
    "class_names.json",
    "config.json",
    "environment.json",
    "examples.json",
    "history.csv",
    "model.keras",
    "result.json",
}

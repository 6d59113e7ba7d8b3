"""Watching a run: TensorBoard, progress, history, speed, pictures."""

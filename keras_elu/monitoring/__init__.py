"""Watching a run: TensorBoard, progress, history, speed and pictures."""

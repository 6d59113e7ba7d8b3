"""The training and the evaluation of a run."""

import sys
from typing import Any

from keras_elu.distributed import strategies
from keras_elu.distributed.execution import NonFiniteLoss
from keras_elu.monitoring.progress import metrics_text
from keras_elu.training.callbacks import Records
from keras_elu.training.checkpoints import Checkpoints
from keras_elu.training.run import Run


def evaluate(run: Run, found: str, chief: bool) -> None:
    """Evaluates the model on the validation and test images, and prints what came of it.

    Args:
        run: A run whose model has the weights to evaluate.
        found: Where these were.
        chief: Whether this process prints.
    """
    if chief:
        print(f"{run.recipe} on {run.dataset.name}: the weights of {found}", flush=True)
    for split, pipeline in {"validation": run.validation, "test": run.test}.items():
        metrics = run.model.evaluate(pipeline, verbose=0, return_dict=True)
        if chief:
            print(f"{split:<10} {metrics_text(metrics)}", flush=True)


def fit(run: Run, records: Records) -> dict[str, Any]:
    """Trains, evaluates, fills the folder, and returns the result.

    Where an earlier attempt was stopped, the run goes on from its last checkpoint.

    Raises:
        Stopped: If it was told to stop; it has saved.
        NonFiniteLoss: If the loss is not finite any more.
        OSError: If the disk refuses the result, or all checkpoints for long.
    """
    folder, checkpoints = records.folder, records.checkpoints
    if folder.chief:
        print(
            f"{run.recipe} on {run.dataset.name}: {run.dataset.examples['train']:,} training "
            f"images, {run.model.count_params():,} parameters, replicas: {run.replicas}, folder: "
            f"{folder.path}",
            flush=True,
        )
        if checkpoints.start:
            print(f"going on after {_position(run, checkpoints)}", flush=True)
        if checkpoints.replicas not in (None, run.replicas):
            print(
                f"on {run.replicas} replicas instead of {checkpoints.replicas}: the run goes on "
                "alike, but not equal in every bit",
                flush=True,
            )
    _train(run, records)
    test = {}
    if run.trial is None:  # nothing may be chosen by the test set
        test = run.model.evaluate(run.test, verbose=0, return_dict=True, callbacks=[checkpoints])
    last = records.history.last if folder.chief else {}
    result = {
        "recipe": run.recipe,
        "dataset": run.dataset.name,
        "parameters": run.model.count_params(),
        "epochs": run.config.epochs,
        "steps": run.steps_per_epoch * run.config.epochs,
        "training": {key: value for key, value in last.items() if not key.startswith("val_")},
        "validation": {key[4:]: value for key, value in last.items() if key.startswith("val_")},
        "test": test,
        "replicas": run.replicas,
        "devices": strategies.count(run.model.distribute_strategy),
        "images_per_second": records.progress.images_per_second,
        "seconds": records.progress.elapsed,
    }
    checkpoints.close()
    if folder.chief:
        records.history.write()
        records.tensorboard.finish(test, run.test)
        folder.finish(run.model, result)
        checkpoints.clear()
    return result


def _train(run: Run, records: Records) -> None:
    """Trains to the end, after a loss that is not finite as often again as it may."""
    checkpoints = records.checkpoints
    for left in reversed(range(run.config.recover + 1)):
        if left:
            checkpoints.save_start()
        try:
            run.model.fit(
                run.training(checkpoints.start),
                steps_per_epoch=run.steps_per_epoch,
                initial_epoch=checkpoints.epoch,
                initial_step=checkpoints.step,
                epochs=run.config.epochs,
                validation_data=run.validation,
                shuffle=False,  # the pipeline does
                verbose=0,
                callbacks=records.all,
            )
            return
        except NonFiniteLoss as error:
            if not left:
                raise
            checkpoints.go_back(error.step)
            if not records.folder.chief:
                continue
            print(
                f"{error} Going back to {_position(run, checkpoints)}; the batches up to that of "
                f"this step are left out, {left - 1} attempts are left.",
                file=sys.stderr,
                flush=True,
            )


def _position(run: Run, checkpoints: Checkpoints) -> str:
    return f"step {checkpoints.step:,} of {run.steps_per_epoch:,} in epoch {checkpoints.epoch + 1}"

"""Training and evaluating a run."""

import sys
from typing import Any

from keras_elu import models
from keras_elu.distributed import strategies
from keras_elu.distributed.execution import NonFiniteLoss
from keras_elu.monitoring.progress import metrics_text
from keras_elu.training.best import BestEpoch
from keras_elu.training.callbacks import RunCallbacks
from keras_elu.training.checkpoints import Checkpoints
from keras_elu.training.run import Run


def evaluate(run: Run, source: str, chief: bool) -> None:
    """Evaluates the model on the validation and test images, and prints the metrics.

    Args:
        run: A run whose model has the weights to evaluate.
        source: Where the weights come from, for the first line of the output.
        chief: Whether this process prints.
    """
    if chief:
        print(f"{run.recipe} on {run.dataset.name}: weights from {source}", flush=True)
    for split, pipeline in {"validation": run.validation, "test": run.test}.items():
        metrics = run.model.evaluate(pipeline, verbose=0, return_dict=True)
        if chief:
            print(f"{split:<10} {metrics_text(metrics)}", flush=True)


def fit(run: Run, callbacks: RunCallbacks) -> dict[str, Any]:
    """Trains and tests the model, writes the result to the folder, and returns it.

    Resumes from the last checkpoint if there is one.

    Raises:
        Stopped: After a stop signal, once the run is saved.
        NonFiniteLoss: If the loss is not finite, and no attempt to recover is left.
        OSError: If the result cannot be written, no checkpoint could be for half an hour or at a
            stop signal, or workers have found different checkpoints.
    """
    folder, checkpoints = callbacks.folder, callbacks.checkpoints
    if folder.chief:
        cost = "".join(f"{n:.3g} PFLOP, " for n in _arithmetic(run, run.config.epochs).values())
        print(
            f"{run.recipe} on {run.dataset.name}: {run.dataset.examples['train']:,} training "
            f"images, {run.model.count_params():,} parameters, {cost}replicas: {run.replicas}, "
            f"folder: {folder.path}",
            flush=True,
        )
        if checkpoints.start:
            print(f"resuming after {_position(run, checkpoints)}", flush=True)
        if checkpoints.replicas not in (None, run.replicas):
            print(
                f"replicas: {run.replicas} instead of {checkpoints.replicas}; results agree to "
                "rounding, apart from those of dropout and batch normalisation, unless replicas "
                "times micro-batches are as many as before",
                flush=True,
            )
    with run.model.distribute_strategy.scope():
        self_contained = run.self_contained()
    _train(run, callbacks)
    folder.write_model(self_contained)  # first: nothing that fails from here on may lose it
    epochs, best, chosen = run.config.epochs, callbacks.best, {}
    test = _test(run, checkpoints)
    if best is not None:
        epochs = best.epochs
        with best.restored(run.model):
            folder.write_model(self_contained, "best.keras")
            chosen = {"best": _best(best, _test(run, checkpoints))}
    last = callbacks.history.last if folder.chief else {}
    result = {
        "recipe": run.recipe,
        "dataset": run.dataset.name,
        "parameters": run.model.count_params(),
        "epochs": epochs,
        "steps": run.steps_per_epoch * epochs,
        **_arithmetic(run, epochs),
        **({"stopped_after": epochs} if best is not None and best.exhausted else {}),
        "model": "model.keras",
        "training": {key: value for key, value in last.items() if not key.startswith("val_")},
        "validation": {key[4:]: value for key, value in last.items() if key.startswith("val_")},
        "test": test,
        **chosen,
        "replicas": run.replicas,
        "devices": strategies.count(run.model.distribute_strategy),
        "images_per_second": callbacks.progress.images_per_second,
        "seconds": callbacks.progress.elapsed,
    }
    checkpoints.close()
    if folder.chief:
        callbacks.history.write()
        callbacks.tensorboard.finish(test, run.test, epochs)
        folder.write_result(result)
        checkpoints.clear(all_but=1 if run.trial is None else 0)  # to train the run longer
    return result


def _arithmetic(run: Run, epochs: int) -> dict[str, float]:
    """Returns the arithmetic of some epochs as `pflop`, if that of the network can be counted."""
    images = run.steps_per_epoch * epochs * run.config.batch_size
    try:
        return {"pflop": models.pflop(run.model, images)}
    except ValueError:  # sizes that vary, or layers of other kinds
        return {}


def _test(run: Run, checkpoints: Checkpoints) -> dict[str, float]:
    if run.trial is not None:  # a search must not choose by the test set
        return {}
    return run.model.evaluate(run.test, verbose=0, return_dict=True, callbacks=[checkpoints])


def _best(best: BestEpoch, test: dict[str, float]) -> dict[str, Any]:
    """The part of the result that describes the model of the best epoch."""
    validation = {name.removeprefix("val_"): value for name, value in best.metrics.items()}
    return {
        "model": "best.keras",
        "metric": best.metric,
        "epoch": best.best_epoch,
        "validation": validation,
        "test": test,
    }


def _train(run: Run, callbacks: RunCallbacks) -> None:
    """Trains to the end, returning to the last checkpoint up to `--recover` times."""
    checkpoints, epochs = callbacks.checkpoints, run.config.epochs
    if callbacks.best is not None and (memory := checkpoints.memory("best")):
        callbacks.best.set_state(memory)
        if callbacks.best.exhausted:
            epochs = checkpoints.epoch
    for attempts_left in reversed(range(run.config.recover + 1)):
        if attempts_left:
            checkpoints.save_start()
        try:
            run.model.fit(
                run.training(checkpoints.start),
                steps_per_epoch=run.steps_per_epoch,
                initial_epoch=checkpoints.epoch,
                initial_step=checkpoints.step,
                epochs=epochs,
                validation_data=run.validation,
                shuffle=False,  # the pipeline shuffles
                verbose=0,
                callbacks=callbacks.all,
            )
            return
        except NonFiniteLoss as error:
            error.step = checkpoints.done + error.offset  # with the steps that a loss scale skipped
            if not attempts_left:
                raise
            checkpoints.go_back(error)
            if callbacks.folder.chief:
                print(
                    f"{error} Returning to {_position(run, checkpoints)} and skipping the batches "
                    f"up to this step; attempts left: {attempts_left - 1}",
                    file=sys.stderr,
                    flush=True,
                )


def _position(run: Run, checkpoints: Checkpoints) -> str:
    return f"step {checkpoints.step:,} of {run.steps_per_epoch:,} in epoch {checkpoints.epoch + 1}"

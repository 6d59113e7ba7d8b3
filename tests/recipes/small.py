"""Each recipe, and its configuration on a small scale."""

from keras_elu.recipes import autoencoder, cifar, fast_cifar, imagenet, imagenet_resnet, mnist
from keras_elu.training.config import resolve

RECIPES = (autoencoder, cifar, fast_cifar, imagenet, imagenet_resnet, mnist)


def config(recipe, **changes):
    small = {"batch_size": 8, "epochs": 1, "dataset": "synthetic"}
    if recipe is imagenet:
        small |= {"width": 1 / 64}
    if recipe is fast_cifar:
        small |= {"widths": "4,6,8", "convolutions": 2}
    if recipe is imagenet_resnet:
        small |= dict.fromkeys(("first_size", "last_size", "image_size"), 8)
        small |= {"augmentation": "crop"}
    return resolve(recipe, recipe.Config(**small | changes))

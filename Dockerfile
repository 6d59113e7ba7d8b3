# TensorFlow with CUDA in the versions of requirements.lock, the package, and its scripts. The machine
# needs NVIDIA's driver and container toolkit only:
#   docker build --tag REGISTRY/keras_elu:TAG .
#   docker run --rm --gpus all --shm-size 1g REGISTRY/keras_elu:TAG \
#     python trainers/imagenet_resnet.py --strategy mirrored
FROM python:3.11-slim

# What the container toolkit makes visible: the driver's CUDA, and nvidia-smi.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
ENV PYTHONUNBUFFERED=1
WORKDIR /keras_elu

# The dependencies alone first: a change of the code does not install them again.
COPY requirements.lock setup.py pyproject.toml README.md LICENSE ./
RUN python -m pip install --no-cache-dir --constraint requirements.lock '.[cuda,tuning]'

COPY keras_elu keras_elu
COPY trainers trainers
COPY tuning tuning
RUN python -m pip install --no-cache-dir --no-deps --force-reinstall .

RUN useradd --uid 1000 --create-home keras_elu && install --directory --owner keras_elu runs
USER keras_elu
CMD ["python", "trainers/imagenet.py", "--strategy", "mirrored"]

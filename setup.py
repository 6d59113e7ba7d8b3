"""Packaging. `pip install .` installs `keras_elu` and what training needs.

The extras add CUDA, reports, exports, searches, tests and docs.
"""

import pathlib

import setuptools

HERE = pathlib.Path(__file__).parent

setuptools.setup(
    name="keras_elu",
    version="0.1.0",
    description="Exponential linear units for Keras 3, and the experiments of their paper",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.11",
    packages=setuptools.find_packages(include=["keras_elu", "keras_elu.*"]),
    package_data={"keras_elu": ["py.typed"]},
    install_requires=[
        "google-crc32c",  # the checksums of TFRecord files
        "keras>=3.14,<3.16",
        "numpy",
        "opencv-python-headless",  # resizes photographs, three times as fast as TensorFlow
        "pillow",
        "simplejpeg",  # decodes them with the present libjpeg-turbo
        "tensorflow>=2.21,<2.22",
        "tensorflow-datasets>=4.9.10",
        "importlib_resources",  # needed, not declared, by tensorflow-datasets 4.9.10
        "scikit-learn",  # carries the digits data set
        "tensorboard>=2.21",  # 2.20 breaks with setuptools 82
        "tqdm",
        "tyro",
    ],
    extras_require={
        "cuda": ["tensorflow[and-cuda]>=2.21,<2.22"],
        "docs": ["furo", "myst-parser", "sphinx"],
        "export": ["ai-edge-litert", "onnx", "onnxruntime", "tf2onnx"],
        "plots": ["matplotlib"],
        "tuning": [
            "keras-tuner>=1.4.8,<1.5",
            "matplotlib",  # draws the schedules of a search
            "scipy",  # needed, not declared, by keras-tuner's BayesianOptimization
        ],
        "tests": [
            "ai-edge-litert",
            "build",
            "hypothesis",
            "jax",
            "litserve",
            "mpmath",
            "mypy",
            "onnx",
            "onnxruntime",
            "pytest",
            "pytest-xdist",
            "pyyaml",
            "ruff",
            "tf2onnx",
            "torch",
        ],
    },
    classifiers=[
        "License :: OSI Approved :: Apache Software License",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)

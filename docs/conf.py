"""Builds the site of these pages and the docstrings: `make docs`."""

import inspect
import os
import re

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import keras_elu

project = "keras_elu"
author = copyright = "The keras_elu authors"
version = release = keras_elu.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_title = f"keras_elu {release}"
nitpicky = True  # a reference that leads nowhere is a warning, and -W makes warnings errors
myst_heading_anchors = 3  # the anchors that GitHub gives to headings
default_role = "code"  # docstrings write `name`, as Markdown does
autodoc_typehints = "none"  # signatures that span the screen; ranges and meanings are in Args
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False


def _from_markdown(app, what, name, obj, options, lines):
    """Turns what Markdown and reStructuredText spell differently: links, and a_ before a quote."""
    text = re.sub(r"\[([^]`]+)\]\((https?:[^)]+)\)", r"`\1 <\2>`__", "\n".join(lines))
    lines[:] = re.sub(r'_(?=")', r"\_", text).splitlines()


def _own_signature(app, what, name, obj, options, signature, returned):
    """The signature of `__init__` for layers and models, whose `__new__` Keras replaces."""
    if what == "class" and signature == "(*args, **kwargs)":
        _, *rest = inspect.signature(obj.__init__).parameters.values()
        rest = [parameter.replace(annotation=parameter.empty) for parameter in rest]
        return str(inspect.Signature(rest)), returned
    return None


def setup(app):
    app.connect("autodoc-process-signature", _own_signature)
    app.connect("autodoc-process-docstring", _from_markdown)

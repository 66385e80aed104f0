"""Sphinx configuration of the documentation: `make docs` builds it."""

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the examples' encoder comes with [demo]

import skxmc

project = "skxmc"
author = copyright = "the skxmc developers"
version = release = skxmc.__version__

templates_path = ["_templates"]
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "numpydoc",
    "myst_parser",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "gallery/GALLERY_HEADER.rst", "sg_execution_times.rst"]
nitpicky = False
default_role = "autolink"

html_theme = "furo"
html_title = f"skxmc {release}"
html_theme_options = {"navigation_with_keys": True}
html_static_path = ["_static"]
html_css_files = ["width.css"]

myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3

autosummary_generate = True
autodoc_typehints = "none"  # numpydoc says them in words
numpydoc_show_class_members = False  # the template of a class lists them, each on its page
numpydoc_class_members_toctree = False
# Docstrings have all sections that numpydoc knows of, each parameter its type and description. Not
# asked for: a See Also, more than a summary where that says all, an example in methods such as fit
# that the class's example shows, and a verb first where a class or a function is a noun.
numpydoc_validation_checks = {"all", "ES01", "SA01", "EX01", "SS05", "SS06"}
numpydoc_validation_exclude = {  # what scikit-learn wrote
    r"\.(get_params|set_params|get_metadata_routing|set_\w+_request|set_output|set_callbacks)$",
    r"\.(get_feature_names_out|fit_predict|fit_transform)$",
}

sphinx_gallery_conf = {
    "examples_dirs": "../examples/gallery",
    "gallery_dirs": "gallery",
    "filename_pattern": "plot_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "parallel": 2,
    "show_memory": False,
    "ignore_repr_types": r"skxmc\.plotting",  # the pictures are shown
    "download_all_examples": False,
    "doc_module": ("skxmc",),
    "backreferences_dir": "generated/backreferences",
    "remove_config_comments": True,
}

# The pages in the order of the side bar. They are not in the pages themselves, where a repository
# browser would show the directive as code.
PAGES = {
    "index": (
        "getting_started guide/index gallery/index api accuracy experiments performance "
        "reliability compatibility architecture contributing changelog"
    ),
    "guide/index": (
        "data training encoders large_label_sets ensembles neighbors searching metrics decisions "
        "new_labels saving_and_serving other_systems understanding long_texts languages "
        "reproducibility gpu distributed ray spark very_large command_line troubleshooting"
    ),
}


def add_pages(app, name, source):
    """Append the hidden table of contents to the pages that have one."""
    if name in PAGES:
        pages = "\n".join(PAGES[name].split())
        source[0] += f"\n```{{toctree}}\n:maxdepth: 1\n:hidden:\n\n{pages}\n```\n"


def setup(app):
    """Register `add_pages`."""
    app.connect("source-read", add_pages)

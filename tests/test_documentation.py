"""The documentation is right: its code runs, and the package has the messages it quotes."""

import ast
import re
from pathlib import Path

import pytest
from tiny_encoders import MINILM

import skxmc.datasets
from skxmc._training import settings

DOCS = Path(__file__).parents[1] / "docs"
README = DOCS.parent / "README.md"
PAGES = sorted([DOCS / "index.md", DOCS / "getting_started.md", *(DOCS / "guide").glob("*.md")])
CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# test_other_systems.py and test_engines.py run their code.
OTHER_SYSTEMS = {DOCS / "guide" / f"{name}.md" for name in ("other_systems", "ray", "spark")}
MESSAGE = re.compile(r"^`([^`]+)`\n: ", re.MULTILINE)
BEFORE_MESSAGES_OF_OTHERS = "## From scikit-learn and PyTorch"


@pytest.fixture
def short_texts(monkeypatch):
    """Have `make_xmc` make texts of some seven words instead of 25: most of the time is theirs."""
    make_xmc = skxmc.datasets.make_xmc

    def make_short(*args, **options):
        return make_xmc(*args, **{"n_labels_per_sample": 2, "n_noise_words": 1, **options})

    monkeypatch.setattr(skxmc.datasets, "make_xmc", make_short)


@pytest.mark.slow
@pytest.mark.usefixtures("short_texts")
@pytest.mark.parametrize(
    "page",
    [page for page in PAGES if CODE.search(page.read_text("utf-8")) and page not in OTHER_SYSTEMS],
    ids=lambda p: p.stem,
)
def test_docs_code_of_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch, narrow_minilm):
    """A narrow encoder takes the place of MiniLM, which the gallery trains."""
    monkeypatch.chdir(tmp_path)
    namespace = {}
    for code in code_of(page, narrow_minilm):
        exec(code, namespace)


@pytest.mark.slow
@pytest.mark.usefixtures("short_texts")
@pytest.mark.filterwarnings("ignore:Too few held-out texts")
def test_readme_code_runs(tmp_path, monkeypatch, narrow_minilm):
    """Only the first block trains the real encoder. Each fit of the others takes one epoch."""
    monkeypatch.chdir(tmp_path)
    namespace = {}
    first, *_ = code_of(README, MINILM)
    exec(first, namespace)
    assert namespace["labels"].shape == (1, 3)
    monkeypatch.setattr(settings, "auto_epochs", lambda n_texts: 1)
    _, *others = code_of(README, narrow_minilm)
    for code in others:
        exec(code, namespace)
    found = namespace["search"].best_estimator_
    assert found.network_.label_table.by_cluster().shape[2] == found.bottleneck_dim


def code_of(page, encoder):
    """Compile the code blocks of a page for an encoder, with its line numbers in tracebacks."""
    text = page.read_text("utf-8").replace(MINILM, encoder)
    for block in CODE.finditer(text):
        lines_before = text[: block.start(1)].count("\n")
        yield compile("\n" * lines_before + block.group(1), page, "exec")


def test_troubleshooting_messages_appear_in_package():
    sources = [path.read_text("utf-8") for path in Path(skxmc.__file__).parent.rglob("*.py")]
    raised = [text for source in sources for text in texts_of(ast.parse(source))]
    page = (DOCS / "guide" / "troubleshooting.md").read_text("utf-8")
    messages = MESSAGE.findall(page.split(BEFORE_MESSAGES_OF_OTHERS)[0])
    assert len(messages) > 20
    for message in messages:
        parts = [part.strip() for part in message.split("...")]
        assert any(appear_in_order(parts, text) for text in raised), message


def texts_of(tree):
    """Find the strings of a module except docstrings, without the fields of f-strings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            node.value = ast.Pass()
        elif isinstance(node, ast.JoinedStr):
            yield "".join(p.value if isinstance(p, ast.Constant) else "\0" for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def appear_in_order(parts, text):
    return re.search(".*".join(map(re.escape, parts)), text, re.DOTALL) is not None

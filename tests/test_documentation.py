"""The documentation does what it says: its code runs, its error messages are those raised."""

import ast
import re
from pathlib import Path

import pytest

import skxmc

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted([DOCS / "getting_started.md", *(DOCS / "guide").glob("*.md")])
CODE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MESSAGE = re.compile(r"^`([^`]+)`\n: ", re.MULTILINE)
BEFORE_MESSAGES_OF_OTHERS = "## From scikit-learn and PyTorch"


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if CODE.search(page.read_text("utf-8"))], ids=lambda p: p.stem
)
def test_the_code_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = page.read_text("utf-8")
    # Blank lines in front, so that a traceback names the line of the page.
    namespace = {}
    for block in CODE.finditer(text):
        lines_before = text[: block.start(1)].count("\n")
        code = compile("\n" * lines_before + block.group(1), page, "exec")
        exec(code, namespace)


def test_the_error_messages_of_troubleshooting_are_raised_somewhere():
    sources = [path.read_text("utf-8") for path in Path(skxmc.__file__).parent.rglob("*.py")]
    raised = [text for source in sources for text in texts_of(ast.parse(source))]
    page = (DOCS / "guide" / "troubleshooting.md").read_text("utf-8")
    messages = MESSAGE.findall(page.split(BEFORE_MESSAGES_OF_OTHERS)[0])
    assert len(messages) > 20
    for message in messages:
        parts = [part.strip() for part in message.split("...")]
        assert any(appear_in_order(parts, text) for text in raised), message


def texts_of(tree):
    """Strings of a module but docstrings; what an f-string fills in is left out."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            node.value = ast.Pass()
        elif isinstance(node, ast.JoinedStr):
            yield "".join(p.value if isinstance(p, ast.Constant) else "\0" for p in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def appear_in_order(parts, text):
    return re.search(".*".join(map(re.escape, parts)), text, re.DOTALL) is not None

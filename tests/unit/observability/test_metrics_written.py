"""A metric that nobody writes says 0 for ever, and everybody believes it: each is written somewhere in the edge."""

import ast
from pathlib import Path

import edge
from edge.observability import metrics

EDGE = Path(edge.__file__).parent
METRICS = Path(metrics.__file__)


def class_of(tree: ast.Module, name: str) -> ast.ClassDef:
    return next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)


def attributes(node: ast.AST) -> set[str]:
    return {n.attr for n in ast.walk(node) if isinstance(n, ast.Attribute)}


def test_every_family_is_written_by_a_method_that_is_called() -> None:
    """Each counter and histogram is used by a method of `Metrics`, and each method is called from another module."""
    cls = class_of(ast.parse(METRICS.read_text()), "Metrics")
    methods = {m.name: m for m in cls.body if isinstance(m, ast.FunctionDef)}
    declared = {
        target.attr
        for node in ast.walk(methods["__init__"])
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call)
        for target in node.targets
        if isinstance(target, ast.Attribute)
        and isinstance(node.value.func, ast.Name)
        and node.value.func.id in ("Counter", "Histogram", "Gauge")
    }
    assert len(declared) > 10
    used = {name: attributes(method) for name, method in methods.items() if name != "__init__"}
    assert declared - set().union(*used.values()) == set()
    elsewhere: set[str] = set()
    for path in EDGE.rglob("*.py"):
        if path != METRICS:
            elsewhere |= attributes(ast.parse(path.read_text()))
    public = {name for name in used if not name.startswith("_")}
    assert public - elsewhere == set()


def test_every_gauge_is_given_by_the_edge() -> None:
    """`Views.live` gives each field of `Live`: what it left out would stay at its default."""
    fields = {
        node.target.id
        for node in class_of(ast.parse(METRICS.read_text()), "Live").body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    }
    calls = [
        node
        for node in ast.walk(ast.parse((EDGE / "views.py").read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Live"
    ]
    assert len(calls) == 1
    assert fields == {keyword.arg for keyword in calls[0].keywords}

"""How dense the source is: tokens a code line, comprehensions, long lines, complexity.

Run as ``python tests/style/density.py [FOLDER] [--worst N]``. A token is what Python's tokenizer
calls one, without comments, docstrings, line ends and indentation; a code line holds at least one.
Complexity counts what a reader must follow: branches, loops, handlers, boolean operators,
conditional expressions, and the loops and conditions of comprehensions.
"""

from __future__ import annotations

import argparse
import ast
import io
import tokenize
from dataclasses import dataclass
from pathlib import Path

NOT_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}
BRANCHES = (
    ast.If,
    ast.For,
    ast.AsyncFor,
    ast.While,
    ast.ExceptHandler,
    ast.IfExp,
    ast.comprehension,
    ast.match_case,
)


@dataclass(frozen=True)
class Density:
    """Counts of one file, or of many together."""

    lines: int
    code_lines: int
    tokens: int
    comprehensions: int
    long_lines: int
    complex_functions: tuple[tuple[str, int], ...]

    @property
    def tokens_a_line(self) -> float:
        return self.tokens / max(1, self.code_lines)


def density_of(source: str, longest: int = 120, most_complex: int = 15) -> Density:
    tree = ast.parse(source)
    docs = docstring_lines(tree)
    tokens, lines = 0, set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in NOT_CODE or (token.type == tokenize.STRING and token.start[0] in docs):
            continue
        tokens += 1
        lines.update(range(token.start[0], token.end[0] + 1))
    kinds = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
    comprehensions = sum(isinstance(node, kinds) for node in ast.walk(tree))
    text = source.splitlines()
    complexity = sorted(
        ((name, number) for name, number in complexities(tree) if number > most_complex),
        key=lambda one: -one[1],
    )
    return Density(
        len(text),
        len(lines),
        tokens,
        comprehensions,
        sum(len(line) > longest for line in text),
        tuple(complexity),
    )


def docstring_lines(tree: ast.AST) -> set[int]:
    """First lines of strings that are statements: docstrings, and those beneath a field or constant."""
    return {
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    }


def complexities(tree: ast.AST) -> list[tuple[str, int]]:
    """Every function and what a reader must follow in it."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            found.append((node.name, 1 + sum(weight_of(inner) for inner in ast.walk(node))))
    return found


def weight_of(node: ast.AST) -> int:
    if isinstance(node, ast.BoolOp):
        return len(node.values) - 1
    if isinstance(node, ast.comprehension):
        return 1 + len(node.ifs)
    return int(isinstance(node, BRANCHES))


def together(parts: list[Density]) -> Density:
    return Density(
        sum(one.lines for one in parts),
        sum(one.code_lines for one in parts),
        sum(one.tokens for one in parts),
        sum(one.comprehensions for one in parts),
        sum(one.long_lines for one in parts),
        tuple(pair for one in parts for pair in one.complex_functions),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder", type=Path, nargs="?", default=Path(__file__).parents[2] / "src" / "pairfree"
    )
    parser.add_argument("--worst", type=int, default=15)
    asked = parser.parse_args()
    files = {
        path: density_of(path.read_text(encoding="utf-8"))
        for path in sorted(asked.folder.rglob("*.py"))
    }
    for path, one in sorted(files.items(), key=lambda item: -item[1].tokens_a_line)[: asked.worst]:
        print(
            f"{one.tokens_a_line:6.2f}  {one.code_lines:5d} lines  {path.relative_to(asked.folder)}"
        )
    worst = sorted(
        (
            (name, number, path)
            for path, one in files.items()
            for name, number in one.complex_functions
        ),
        key=lambda item: -item[1],
    )
    for name, number, path in worst[: asked.worst]:
        print(f"{number:6d}  {path.relative_to(asked.folder)}: {name}")
    whole = together(list(files.values()))
    share = 100 * whole.long_lines / max(1, whole.lines)
    print(
        f"{len(files)} files, {whole.lines} lines, {whole.code_lines} of code, {whole.tokens_a_line:.2f} "
        "tokens a code line, "
        f"{100 * whole.comprehensions / max(1, whole.code_lines):.1f} comprehensions per 100 lines, "
        f"{share:.1f} % of lines over 120 columns, "
        f"{len(whole.complex_functions)} functions above 15"
    )


if __name__ == "__main__":
    main()

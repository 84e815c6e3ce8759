"""The README's figures: what stands between two comments is made from the result file that the first of them names."""

from __future__ import annotations

import re
from pathlib import Path

from lmdbq.bench import figures, results

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
MARKED = re.compile(r"<!-- figures: (\S+) -->\n.*?<!-- end of figures -->", re.DOTALL)


def source(text: str) -> Path:
    """Return the result file that a README names. Raises ValueError if there is none."""
    found = MARKED.search(text)
    if found is None:
        raise ValueError("the README has no <!-- figures: FILE --> ... <!-- end of figures -->")
    return ROOT / found[1]


def with_figures(text: str, path: Path) -> str:
    """Return a README's text with the figures of a result file. Raises ValueError for a file outside of the clone."""
    source(text)
    if not path.resolve().is_relative_to(ROOT):
        raise ValueError(f"{path} is not in this clone: who reads a figure must be able to look at its rounds")
    name = path.resolve().relative_to(ROOT).as_posix()
    made = figures.markdown(results.load(path))
    return MARKED.sub(lambda _: f"<!-- figures: {name} -->\n{made}<!-- end of figures -->", text)


def write(path: Path | None) -> Path:
    """Write the README's figures anew and return the file they are from. path: None is the one they were from."""
    text = README.read_text(encoding="utf-8")
    chosen = path or source(text)
    README.write_text(with_figures(text, chosen), encoding="utf-8")
    return chosen

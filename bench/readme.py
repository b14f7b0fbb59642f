"""``python -m bench.readme``: copy the figures of bench/results/latest.json into the documents."""

from __future__ import annotations

from bench import REPOSITORY, results


def main() -> None:
    """Fill the blocks of every document, and say which changed."""
    found = results.load()
    for path in results.DOCUMENTS:
        text = path.read_text()
        filled = results.filled(text, found)
        if filled != text:
            path.write_text(filled)
            print(f"{path.relative_to(REPOSITORY)}: figures copied")


if __name__ == "__main__":
    main()

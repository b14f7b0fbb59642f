"""``python -m bench.readme``: copy the report's figures to where they are shown."""

from __future__ import annotations

from bench import REPOSITORY, RESULTS, results


def main() -> None:
    """Write the table anew, fill the blocks of every document, and say which changed."""
    found = results.load()
    (RESULTS / results.TABLE).write_text(results.table(found))
    for path in results.documents():
        text = path.read_text()
        filled = results.filled(text, found)
        if filled != text:
            path.write_text(filled)
            print(f"{path.relative_to(REPOSITORY)}: figures copied")


if __name__ == "__main__":
    main()

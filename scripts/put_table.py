"""Usage: put_table.py TABLE PAGE: put a table into a page, between the two comments for it.

The comments are ``<!-- table.md -->`` and ``<!-- end of table.md -->``, with the table's file name.
What is outside of them stays.
"""

import re
import sys
from pathlib import Path

table, page = map(Path, sys.argv[1:])
name = re.escape(table.name)
place = re.compile(rf"(<!-- {name} -->\n\n).*?(<!-- end of {name} -->)", re.DOTALL)
text, found = place.subn(rf"\g<1>{table.read_text()}\n\g<2>", page.read_text())
if not found:
    sys.exit(f"{page}: there is no place for {table.name}")
page.write_text(text)

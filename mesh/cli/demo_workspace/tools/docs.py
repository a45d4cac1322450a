"""Renders one package's README to HTML: headings, paragraphs, lists, code, and a check that every code sample is valid Python."""

import html
import re
from pathlib import Path

from common import package, say, wait, write


def blocks(text):
    for block in re.split(r"\n{2,}", text.strip()):
        lines = block.splitlines()
        if block.startswith("#"):
            level = len(block) - len(block.lstrip("#"))
            yield f"<h{level}>{inline(block[level:].strip())}</h{level}>"
        elif all(line.startswith("    ") for line in lines):
            source = "\n".join(line[4:] for line in lines)
            compile(source, "README.md", "exec")
            yield f"<pre><code>{html.escape(source)}</code></pre>"
        elif block.startswith("* "):
            yield "<ul>" + "".join(f"<li>{inline(item)}</li>" for item in block[2:].split("\n* ")) + "</ul>"
        else:
            yield f"<p>{inline(' '.join(lines))}</p>"


def inline(text):
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))


def main():
    fields = package()
    parts = list(blocks(Path("README.md").read_text()))
    say(f"{fields['name']}: {len(parts)} blocks")
    head = f"<!doctype html>\n<meta charset=utf-8>\n<title>{fields['name']}: {html.escape(fields['about'])}</title>\n"
    wait(0.7)
    write(f"dist/{fields['name']}.html", head + "\n".join(parts) + "\n")


main()

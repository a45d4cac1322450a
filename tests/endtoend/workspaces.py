"""Sample workspaces, as dictionaries of files."""

LAYERS = 5
WIDTH = 40

GITIGNORE = "out/\n"


def two_hundred() -> dict[str, str]:
    """200 tasks in five layers of forty; each makes a file, a program, a folder and a link from what two tasks of the layer above have made."""
    step = """#!/bin/sh
# step.sh NAME INPUT...: everything that outputs can be, derived from NAME and the inputs.
set -e
name=$1; shift
mkdir -p "out/$name/deep/empty"
{ echo "$name"; cat -- "$@"; } | cksum > "out/$name/sum"
cat "source/$name" >> "out/$name/sum"
printf '#!/bin/sh\\necho %s\\n' "$name" > "out/$name/run"
chmod +x "out/$name/run"
ln -s "../sum" "out/$name/deep/link"
head -c $((${#name} * 1000)) /dev/zero | tr '\\0' "${name#l}" > "out/$name/deep/zeros"
test ! -e slow || sleep "$(cat slow)"
"""
    files = {"step.sh": step, ".gitignore": GITIGNORE}
    lines = []
    for layer in range(LAYERS):
        for column in range(WIDTH):
            name = f"l{layer}-{column}"
            files[f"source/{name}"] = f"source of {name}\n"
            above = [f"l{layer - 1}-{column}", f"l{layer - 1}-{(column * 7 + 3) % WIDTH}"] if layer else []
            above = list(dict.fromkeys(above))
            inputs = " ".join(f"out/{other}/sum out/{other}/deep/link" for other in above)
            deps = ", ".join(f'"{other}"' for other in above)
            lines.append(
                f'[tasks.{name}]\ncommand = "./step.sh {name} {inputs}"\ndeps = [{deps}]\n'
                f'inputs = ["step.sh", "source/{name}", "slow"]\noutputs = ["out/{name}/**"]\n'
            )
    files["dte.toml"] = "\n".join(lines)
    return files


def names(files: dict[str, str]) -> list[str]:
    """The tasks of `two_hundred`."""
    return [path.removeprefix("source/") for path in files if path.startswith("source/")]


def toml(**tasks: str) -> dict[str, str]:
    """A workspace of a few tasks: name → the lines of its table. `_` in a name stands for `-`; a leading "defaults" is that table."""
    parts = []
    for name, body in tasks.items():
        title = "defaults" if name == "defaults" else f"tasks.{name.replace('_', '-')}"
        parts.append(f"[{title}]\n{body.strip()}\n")
    return {"dte.toml": "\n".join(parts), ".gitignore": GITIGNORE}

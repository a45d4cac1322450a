"""Sample workspaces, as dictionaries of files."""

LAYERS = 5
GITIGNORE = "out/\n"


def layered(width: int, pause_s: float = 0) -> dict[str, str]:
    """Five layers of `width` tasks; each makes files, a program, a folder and a link from what two tasks of the layer above have made."""
    step = f"""#!/bin/sh
# step.sh NAME INPUT...: everything that outputs can be, derived from NAME and the inputs.
set -e
name=$1; shift
mkdir -p "out/$name/deep/empty"
{{ echo "$name"; cat -- "$@"; }} | cksum > "out/$name/sum"
read -r line < "source/$name"; echo "$line" >> "out/$name/sum"
printf '#!/bin/sh\\necho %s\\n' "$name" > "out/$name/run"
chmod +x "out/$name/run"
ln -s "../sum" "out/$name/deep/link"
case $name in *-7) head -c 3000000 /dev/zero > "out/$name/deep/large"; echo "$name" >> "out/$name/deep/large";; esac
test {pause_s} = 0 || sleep {pause_s}
"""
    files = {"step.sh": step, ".gitignore": GITIGNORE}
    lines = []
    for layer in range(LAYERS):
        for column in range(width):
            name = f"l{layer}-{column}"
            files[f"source/{name}"] = f"source of {name}\n"
            above = [f"l{layer - 1}-{column}", f"l{layer - 1}-{(column * 7 + 3) % width}"] if layer else []
            above = list(dict.fromkeys(above))
            inputs = " ".join(f"out/{other}/sum out/{other}/deep/link" for other in above)
            deps = ", ".join(f'"{other}"' for other in above)
            lines.append(
                f'[tasks.{name}]\ncommand = "./step.sh {name} {inputs}"\ndeps = [{deps}]\n'
                f'inputs = ["step.sh", "source/{name}"]\noutputs = ["out/{name}/**"]\n'
            )
    files["dte.toml"] = "\n".join(lines)
    return files


def names(files: dict[str, str]) -> list[str]:
    """The tasks of a `layered` workspace."""
    return [path.removeprefix("source/") for path in files if path.startswith("source/")]


def wait_for(name: str) -> str:
    """A shell command that ends when the test has told the site so (`Site.tell`)."""
    return f"until test -e $SITE/{name}; do sleep 0.05; done"


def toml(**tasks: str) -> dict[str, str]:
    """A workspace of a few tasks: name → the lines of its table. `_` in a name stands for `-`; a leading "defaults" is that table."""
    parts = []
    for name, body in tasks.items():
        title = "defaults" if name == "defaults" else f"tasks.{name.replace('_', '-')}"
        parts.append(f"[{title}]\n{body.strip()}\n")
    return {"dte.toml": "\n".join(parts), ".gitignore": GITIGNORE}

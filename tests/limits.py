#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""What the manual says of each limit is what the program is built with, and no limit is left out."""
import os
import re
import sys

SRCDIR = os.environ.get("SRCDIR", ".")
UNITS = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
number = 0


def check(sentence, good, *notes):
    global number
    number += 1
    print("%s %d - %s" % ("ok" if good else "not ok", number, sentence))
    for n in notes if not good else ():
        print("#   %s" % (n,))


def read(name):
    with open(os.path.join(SRCDIR, name)) as f:
        return f.read()


def of_header():
    """Name -> number."""
    limits = {}
    for name, value in re.findall(r"^#define (VF_\w+) +(.+?) *(?:/\*.*)?$", read("include/vecfs/limits.h"), re.M):
        limits[name] = eval(re.sub(r"(\d)u\b", r"\1", value), {"__builtins__": {}})
    return limits


def of_manual():
    """Name -> the numbers of its line, and the place of the name among those of the line."""
    said, line = {}, ""
    for text in read("man/vecfs.5").splitlines():
        names = re.match(r'\.\\" = (.+)', text)
        if not names:
            line = text
            continue
        numbers = [float(n) * UNITS[unit or ""] for n, unit in re.findall(r"(\d+(?:\.\d+)?)(?: ([KMG]iB))?", line)]
        for name in names[1].split():
            said.setdefault(name, []).append((line, numbers))
    return said


limits, said = of_header(), of_manual()
check("there are limits", len(limits) > 30, limits)
for name, value in sorted(limits.items()):
    lines = said.get(name, [])
    check("%s is in vecfs(5), once, as %s" % (name, value), len(lines) == 1 and value in lines[0][1], *lines)
check("and nothing else is", set(said) <= set(limits), set(said) - set(limits))
print("1..%d" % number)
sys.exit(0)

"""The Penn Treebank tokenizer of Stanford CoreNLP, as pycocoevalcap runs it."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tasks.captioning import java

# What the tokenizer takes for the end of a line, and so for the end of a text. pycocoevalcap replaces the line feed
# alone; any of the others would move the captions of all later images by one.
LINE_BREAK = re.compile("[\n\r\v\f\u2028\u2029]")


def tokenize(*groups: Sequence[str]) -> list[list[str]]:
    """Lower-case tokens without punctuation, joined by spaces, of each text of each group; Java starts once.

    Each group is a file of its own to the tokenizer: how a text ends can depend on the one after it.

    Raises:
        InputError: there is no Java, or it does not do its work.
    """
    names = [f"group{number}" for number in range(len(groups))]
    files = {name: "\n".join(map(_one_line, group)) for name, group in zip(names, groups, strict=True)}
    files["list"] = "".join(f"{name} {name}.tokens\n" for name in names)
    jar = java.package() / "tokenizer" / "stanford-corenlp-3.4.1.jar"
    arguments = ["-cp", str(jar), "edu.stanford.nlp.process.PTBTokenizer", "-preserveLines", "-lowerCase"]
    with java.running("The PTB tokenizer", [*arguments, "-ioFileList", "list"], files=files) as run:
        run.output()
        return [_read(run, name, len(group)) for name, group in zip(names, groups, strict=True)]


def _one_line(text: str) -> str:
    return LINE_BREAK.sub(" ", text)


def _read(run: java.Run, name: str, count: int) -> list[str]:
    """The tokens of one group of `count` texts."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

    file = run.folder / f"{name}.tokens"
    lines = file.read_bytes().decode("utf-8", "replace").split("\n") if file.is_file() else []
    if len(lines) != max(count, 1):  # no text at all is one empty line
        raise run.failed(f"returned {len(lines):,} lines for {count:,} captions")
    punctuation = set(PUNCTUATIONS)
    return [" ".join(token for token in line.rstrip().split(" ") if token not in punctuation) for line in lines[:count]]

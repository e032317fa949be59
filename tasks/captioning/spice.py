"""SPICE by its Java program, which needs the parser models of Stanford CoreNLP 3.6.0.

Anderson et al., SPICE: Semantic Propositional Image Caption Evaluation, ECCV 2016.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

from tasks.captioning import java

PARSER = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")
LAST_WITH_JAVASCRIPT = 14


def obstacle() -> str:
    """Reason why SPICE cannot run here, with the fix; empty when it can.

    Raises:
        InputError: everything is there but Java.
    """
    library = java.package() / "spice" / "lib"
    missing = [name for name in PARSER if not (library / name).is_file()]
    if missing:
        return (
            f"SPICE needs {' and '.join(missing)}, which no Python package has. Extract them from Stanford CoreNLP "
            f"3.6.0 (stanford-corenlp-full-2015-12-09.zip) and put them into {library}"
        )
    found = java.find()
    if found.major > LAST_WITH_JAVASCRIPT and not list(library.glob("nashorn-core*.jar")):
        return (
            f"SPICE writes its result with the JavaScript engine that Java had up to version {LAST_WITH_JAVASCRIPT}, "
            f"and {found.path} is version {found.major}. Point JAVA_HOME at a Java 8 to {LAST_WITH_JAVASCRIPT}, or put "
            f"the engine (nashorn-core and its asm jars) into {library}"
        )
    return ""


def scores(candidates: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """The F-score over all tuples in [0, 1] of each image, of tokenized captions.

    Raises:
        InputError: there is no Java, or it does not do its work.
    """
    images = [
        {"image_id": number, "test": candidate, "refs": list(texts)}
        for number, (candidate, texts) in enumerate(zip(candidates, references, strict=True))
    ]
    folder = java.package() / "spice"
    # The program's own jar first (it names its libraries), then whatever else is beside them. Without -cache it
    # keeps nothing, and leaves alone a database library that not every machine can load.
    path = os.pathsep.join([str(folder / "spice-1.0.jar"), str(folder / "lib" / "*")])
    arguments = ["-Xmx8G", "-cp", path, "edu.anu.spice.SpiceScorer", "images.json", "-out", "scores.json", "-silent"]
    with java.running("SPICE", arguments, files={"images.json": json.dumps(images)}) as run:
        run.output()
        try:
            found = json.loads((run.folder / "scores.json").read_bytes())
            by_image = {entry["image_id"]: float(entry["scores"]["All"]["f"]) for entry in found}
            return [by_image[number] for number in range(len(images))]
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise run.failed(f"wrote no score for each image ({type(error).__name__}: {error})") from None

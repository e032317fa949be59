"""The tokenizer of `multiway_nano`, made from the toy set's texts and from words that captions of photographs use.

python -m tasks.toy.tokenizer backbones/multiway_nano.spm
"""

from __future__ import annotations

import io
import string
import sys
from pathlib import Path

from tasks.toy.words import sentences

PIECES = 2046  # with <pad> and <mask> as many ids as the backbone's text embedding has rows
LEARNT = 1900  # pieces that are looked for; the text yields about as many
ROUNDS = 300  # of toy sentences

# Common words of captions, questions and statements about photographs.
WORDS = """
a about above across after again against all also am an and animal another answer any apple are area arm around as
at away baby back background bag ball banana baseball basket bat bathroom beach bear bed behind below bench beside
bike bird blue board boat body book both bottle bowl boy bread brick bridge bright broccoli brown building bus by
cake camera can car carrot carrying cat catch cell chair child children city clean clear clock close cloth clouds
coat coffee cold colour computer counter couch cow cream cross cup cut dark day desk different dirt dish do does dog
donut door down dress drink drive driving each eat eating edge elephant empty end eye face fence few field fire flag
floor flower fly flying food for four fork frisbee from front fruit full game girl giraffe glass going grass gray
great green ground group hair half hand hanging has hat have he head her high hill his hold holding home horse hot
hotdog house how hydrant ice in inside is it its jacket jump kitchen kite knife lady lake laptop large laying leaf
left light line little living long look looking lot low luggage made male man many market mat meat men metal middle
mirror more motorcycle mountain mouse mouth near next night no not number of off old on one open orange other out
outdoors outside oven over paper park parked part pen people person phone photo picture piece pink pizza plain plane
plant plate play player playing pole police pool post purple racket railroad rain ready red refrigerator remote ride
riding right river road rock room round row running sandwich scissors screen sea seat several she sheep shelf shirt
shoe shop shore show side sign sink sit sitting skate skateboard ski skier sky slice small smiling snow so soccer
sofa some someone something stand standing station stone stop store stove street stuffed suit suitcase sun surf
surfboard swing table taken tall teddy television tennis than that the their them there they thing this three
through tie tile time to toilet together top towel tower toy track traffic train tree truck two umbrella under up
using vase vegetable vehicle very view walk walking wall was watch watching water wave wearing well what wheel when
where which while white who why wild window wine with woman women wood wooden yard yellow yes you young zebra zoo
"""


def model() -> bytes:
    """A sentencepiece model of `PIECES` pieces with byte fallback; those that no text yields are padding."""
    text = [sentence for sentence in sentences(ROUNDS) if sentence]
    words = WORDS.split()
    # Shifted rows: each word has other neighbours in each, so that words become pieces and not pairs of words.
    text += [" ".join(words[start::step]) for step in range(7, 23) for start in range(step)]
    text += [" ".join(string.ascii_letters), " ".join(string.digits), " ".join(string.punctuation)]
    learnt = _pieces(_train(text, LEARNT, padding=0))
    return _train(text, LEARNT + PIECES - learnt, padding=PIECES - learnt)


def _train(text: list[str], pieces: int, *, padding: int) -> bytes:
    from sentencepiece import SentencePieceTrainer

    written = io.BytesIO()
    SentencePieceTrainer.train(
        sentence_iterator=iter(text),
        model_writer=written,
        model_type="bpe",
        vocab_size=pieces,
        hard_vocab_limit=False,
        byte_fallback=True,
        character_coverage=1.0,
        user_defined_symbols=[f"<unused{number}>" for number in range(padding)],
        num_threads=1,
        minloglevel=2,
    )
    return written.getvalue()


def _pieces(proto: bytes) -> int:
    from sentencepiece import SentencePieceProcessor

    return SentencePieceProcessor(model_proto=proto).get_piece_size()


if __name__ == "__main__":
    Path(sys.argv[1]).write_bytes(model())

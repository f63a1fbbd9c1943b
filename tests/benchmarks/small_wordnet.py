"""A small WordNet: its files, made up."""

from pathlib import Path

LICENCE = """\
  1 This software and database is being provided to you, the LICENSEE, by  
  2 Princeton University under the following license.  | By obtaining, using  
  3 and/or copying this software and database, you agree that you have  
"""  # noqa: W291  as in WordNet, two blanks end each line

# Made up, in WordNet's format.
LINES = {
    "adj": [
        "00001000 00 a 03 near_by(p) 0 close(a) 0 at_hand(ip) 1 001 & 00002000 a 0000 | "
        'not far off; within reach; "a near by house"; "help was at hand"  ',
        '00002000 00 s 01 brisk 0 000 |  quick and lively;"a brisk walk"; "brisk trade"   ',
    ],
    "adv": ["00003000 02 r 01 Up_North 0 001 \\ 00001000 a 0101 | in or to the north (of a country);  "],
    "noun": [
        "00004000 13 n 0b shed 0 hut 2 lean-to 0 d 0 e 0 f 0 g 0 h 0 i 0 j 0 k 0 002 @ 00005000 n 0000 "
        "~ 00006000 n 0000 | a small building: `shed' is the usual word  ",
        '00005000 13 n 01 carrot 1 000 | promise of reward as in "carrot and stick"; "used the carrot of fame"  ',
    ],
    "verb": ['00006000 30 v 02 go_to 1 visit 0 001 @ 00007000 v 0000 02 + 08 00 + 09 01 | travel, "go to Rome"  '],
}
TEXTS = [
    "near by, close, at hand: not far off; within reach",
    "brisk: quick and lively",
    "Up North: in or to the north (of a country);",
    "shed, hut, lean-to: a small building: `shed' is the usual word",
    'carrot: promise of reward as in "carrot and stick"',
    'go to, visit: travel, "go to Rome"',
]
EXAMPLES = ["a near by house", "a brisk walk", None, None, "used the carrot of fame", None]


def write_wordnet(folder: Path) -> Path:
    """Write WordNet's four files into a new folder, and return it."""
    folder.mkdir()
    for name, lines in LINES.items():
        (folder / f"data.{name}").write_text(LICENCE + "".join(f"{line}\n" for line in lines))
    return folder

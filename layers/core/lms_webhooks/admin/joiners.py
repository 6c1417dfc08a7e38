"""Check that invisible joiners and variation selectors stand only where people write them. Pure.

Words of some scripts and emoji need them. Elsewhere a text with one would look like the text without it.
"""

import re
import unicodedata

_JOINER_OR_SELECTOR = re.compile("[\u200c\u200d\ufe00-\ufe0f]")
_NON_JOINER, _JOINER = "\u200c", "\u200d"
# Scripts whose letters join, or form others together, so that a joiner shows (Unicode 23.2, Layout Controls):
# Arabic, Syriac and N'Ko; Samaritan to Sinhala, which are between; Myanmar; Khmer and Mongolian; Balinese to
# Lepcha; Phags-pa to Devanagari Extended.
_JOINING_SCRIPT = re.compile(
    "[\u0600-\u077f\u07c0-\u0dff\u1000-\u109f\u1780-\u18af\u1b00-\u1c4f\ua840-\ua8ff]"
)
_VIRAMA = 9  # the combining class of signs that take a letter's vowel away
_SYMBOLS = ("So", "Sm")  # the categories that emoji have
_OTHER_EMOJI = "\u203c\u2049\u2139\u3030"  # but for these, which are punctuation and a letter
_KEYCAP = "\u20e3"
_MODIFIERS = "\ufe0f\U0001f3fb\U0001f3fc\U0001f3fd\U0001f3fe\U0001f3ff"  # of an emoji: colour, skin


def all_joiners_show(text: str) -> bool:
    """Whether each joiner and each variation selector of `text` stands where people write one."""
    return all(_shows(text, each.start()) for each in _JOINER_OR_SELECTOR.finditer(text))


def _shows(text: str, index: int) -> bool:
    """Whether the joiner or variation selector at `index` stands where people write one.

    That is no proof that somebody sees it: a joiner between letters that join anyway changes nothing.
    """
    if index == 0:
        return False
    before, here, after = text[index - 1], text[index], text[index + 1 : index + 2]
    if here == _NON_JOINER:  # also between a word or number of another script and its ending
        return unicodedata.combining(before) == _VIRAMA or (
            (_joins(before) or _joins(after)) and _is_of_word(before) and _is_of_word(after)
        )
    if here == _JOINER:
        return _joins(before) or (_is_emoji(after) and (_is_emoji(before) or before in _MODIFIERS))
    return _is_emoji(before) or (before in "0123456789#*" and after == _KEYCAP)


def _joins(character: str) -> bool:
    return bool(_JOINING_SCRIPT.match(character)) and unicodedata.category(character)[0] in "LM"


def _is_of_word(character: str) -> bool:
    return bool(character) and unicodedata.category(character)[0] in "LMN"


def _is_emoji(character: str) -> bool:
    if not character or character.isascii():
        return False
    return unicodedata.category(character) in _SYMBOLS or character in _OTHER_EMOJI

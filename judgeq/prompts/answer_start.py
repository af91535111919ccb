"""The beginning of an answer, proposed from an English question: `Who signs?` gives `The person who signs is`.

A few rules on question words and word order; where none fits, nothing is proposed. Knows nothing of documents.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from judgeq.config import check_text

LONGEST = 200
"""Characters of a question beyond which nothing is proposed."""
IRREGULAR = """
become became begin began come came cost cost cut cut find found get got give gave go went grow grew have had hold held
keep kept leave left lose lost make made mean meant meet met pay paid put put read read run ran say said see saw
sell sold send sent set set show showed speak spoke spend spent stand stood stop stopped take took teach taught win won
write wrote
""".split()
PAST = dict(zip(IRREGULAR[::2], IRREGULAR[1::2], strict=True))
REGULAR = (
    "agree arrive ask belong carry charge close contain count cover end expire fetch follow happen last live need open "
    "own play produce publish receive recommend rent report return serve sign start stay supply travel use visit "
    "want weigh work"
).split()
VERBS = "|".join(sorted([*PAST, *REGULAR], key=len, reverse=True))
BE, MODAL = "is|are|was|were", "will|would|can|could|should|must|may"
PREPOSITION = "about|as|at|by|for|from|in|of|on|to|under|with"
NOUN = r"(?:the|a|an|this|that|these|those|its|his|her|their) \S.*?|[A-Z0-9].*?|it|they|he|she"
"""What names something, so that a form of `be` can follow it."""
PARTICIPLE = r"\w+ed|" + "|".join(
    [*PAST.values(), "born", "built", "done", "given", "hidden", "known", "cast", "taken", "written"]
)
NOT_FOR_RULES = re.compile(r"\b(i|you|your|my|me|we|our|us|and (when|who|what|how|where))\b|[.?!:;]\s", re.IGNORECASE)
"""Words to the model, and several questions in one."""


def propose_answer_prefix(question: str) -> str:
    """How a sentence that answers the question begins, up to what is asked for; empty where no rule fits.

    A small model answers begun sentences far better than questions, see `docs/measured.md`. Give the result as
    `answer_prefix` to `judgeq.read` and the like: all methods that are compared then continue the same words.

    Args:
        question: in English.

    Raises:
        InputError: no text.
    """
    asked = " ".join(check_text("question", question).split()).rstrip(" ?")
    if len(asked) > LONGEST or NOT_FOR_RULES.search(asked):
        return ""
    for pattern, begin in RULES:
        if match := re.fullmatch(pattern, asked):
            found = _begun(match, begin)
            return found[0].upper() + found[1:]
    return ""


def third_person(verb: str) -> str:
    """`leave` as `leaves`."""
    if verb == "have":
        return "has"
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return f"{verb[:-1]}ies"
    return verb + ("es" if verb.endswith(("s", "x", "z", "ch", "sh", "o")) else "s")


def past(verb: str) -> str:
    """`leave` as `left`."""
    if verb.endswith("y") and verb[-2] not in "aeiou":
        return f"{verb[:-1]}ied"
    return PAST.get(verb) or verb + ("d" if verb.endswith("e") else "ed")


ENDINGS: dict[str, Callable[[str], str]] = {"does": third_person, "did": past}
SAID = "|".join(form for verb in (*PAST, *REGULAR) for form in (third_person(verb), past(verb)))


def _with_do(match: re.Match[str]) -> str:
    """`When does the ferry leave on Sundays` as `The ferry leaves`; a preposition that is asked for stays."""
    auxiliary, verb, rest = match["aux"].lower(), match["verb"], match["rest"] or ""
    said = ENDINGS.get(auxiliary, lambda verb: verb if auxiliary == "do" else f"{auxiliary} {verb}")(verb)
    if "leading" not in match.groupdict() and re.match(rf" (?:{PREPOSITION}) \S", rest):
        rest = ""
    return f"{match['subject']} {said}{rest}"


def _begun(match: re.Match[str], begin: str | Callable[[re.Match[str]], str]) -> str:
    """What a rule makes of a question, with the preposition that stood before the question word at its end."""
    found = begin(match) if callable(begin) else match.expand(begin)
    leading = match.groupdict().get("leading") or ""
    return f"{found} {leading[:1].lower()}{leading[1:]}".rstrip()


LEADING = rf"(?P<leading>(?i:{PREPOSITION})(?: the \w+ of)?) (?:what|which)(?: [\w ]+?)?"
OPENING = r"(?i:what|which|when|where|who|how (?!does)\w+)(?: [\w ]+?)?"
WITH_DO = rf"(?P<aux>do|does|did|{MODAL}) (?P<subject>.*?(?<!\bthe)(?<!\ba)) (?P<verb>{VERBS})(?P<rest> .+)?"
RULES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [
    (rf"{LEADING} ({BE}) ({NOUN}) ({PARTICIPLE})", r"\3 \2 \4"),
    (rf"{LEADING} (has|have) ({NOUN}) been (.+)", r"\3 \2 been \4"),
    (rf"{LEADING} {WITH_DO}", _with_do),
    (rf"{OPENING} {WITH_DO}", _with_do),
    (rf"{OPENING} ({MODAL}) ({NOUN}) be ({PARTICIPLE})(?: .+)?", r"\2 \1 be \3"),
    (r"(?i:how many) [\w ]+? (are|were) there(?: .+)?", r"There \1"),
    (rf"(?i:how (?!many)\w+) ({BE}) ({NOUN})(?: ({PARTICIPLE}))?", r"\2 \1 \3"),
    (rf"(?i:when|where|what|which|what \w+|which \w+) ({BE}) ({NOUN}) ({PARTICIPLE})(?: .+)?", r"\2 \1 \3"),
    (rf"(?i:what|who) ({BE}) ({NOUN})((?: \w+)? (?:{PREPOSITION}))", r"\2 \1\3"),
    (rf"(?i:what|which|who|when|where) ({BE}) ({NOUN})", r"\2 \1"),
    (rf"(?i:what|which) (\w+) ({BE}) ((?:{PARTICIPLE}) .+)", r"the \1 \3 \2"),
    (rf"(?i:what|which) (\w*[^\Ws]) ((?:{SAID})(?<!has) .+)", r"the \1 that \2 is"),
    (rf"(?i:who) ((?:{SAID}|is|was)(?: .+)?)", r"the person who \1 is"),
]
"""Question words in any case of letters, names in their own; the first rule that fits decides."""

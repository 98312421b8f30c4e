"""A peer that finds personal data or secrets, over the texts of a file; run in the peers' environment.

No peer gets a model from the internet: presidio runs with its recognizers of patterns over a blank tokenizer, scrubadub
with the detectors that it has built in, detect-secrets with all of its plugins line by line.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

Span = tuple[int, int, str]

OURS = {
    "CREDIT_CARD": "card", "credit_card": "card", "IBAN_CODE": "bank_account", "EMAIL_ADDRESS": "email",
    "email": "email",
    "PHONE_NUMBER": "phone", "phone": "phone", "US_SSN": "national_id", "social_security_number": "national_id",
    "national_insurance_number": "national_id", "credential": "password", "US_BANK_NUMBER": "bank_account",
    "CRYPTO": "other", "DATE_TIME": "other", "URL": "other", "IP_ADDRESS": "other", "url": "other", "twitter": "other",
    "skype": "other", "MAC_ADDRESS": "other",
}  # fmt: skip


def presidio() -> Callable[[str], Iterable[Span]]:
    import spacy
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpArtifacts, NlpEngine

    class Blank(NlpEngine):
        def __init__(self) -> None:
            self.nlp = spacy.blank("en")
            self.nlp.max_length = 10**8

        def load(self) -> None: ...
        def is_loaded(self) -> bool:
            return True

        def process_text(self, text: str, language: str) -> NlpArtifacts:
            document = self.nlp(text)
            return NlpArtifacts(
                entities=[], tokens=document, tokens_indices=[one.idx for one in document],
                lemmas=[one.text for one in document], nlp_engine=self, language=language,
            )  # fmt: skip

        def process_batch(self, texts, language, **_more):  # type: ignore[no-untyped-def]
            return ((text, self.process_text(text, language)) for text in texts)

        def is_stopword(self, _word: str, _language: str) -> bool:
            return False

        def is_punct(self, word: str, _language: str) -> bool:
            return not word.isalnum()

        def get_supported_entities(self) -> list[str]:
            return []

        def get_supported_languages(self) -> list[str]:
            return ["en"]

    engine = AnalyzerEngine(nlp_engine=Blank(), supported_languages=["en"])

    def found(text: str) -> Iterable[Span]:
        for one in engine.analyze(text, language="en", score_threshold=0.4):
            yield one.start, one.end, OURS.get(one.entity_type, "national_id")

    return found


def scrubadub() -> Callable[[str], Iterable[Span]]:
    import scrubadub

    scrubber = scrubadub.Scrubber()

    def found(text: str) -> Iterable[Span]:
        for one in scrubber.iter_filth(text):
            yield one.beg, one.end, OURS.get(str(one.type), "national_id")

    return found


def detect_secrets() -> Callable[[str], Iterable[Span]]:
    from detect_secrets.core.scan import scan_line
    from detect_secrets.settings import default_settings

    def found(text: str) -> Iterable[Span]:
        place = 0
        with default_settings():
            for line in text.splitlines(keepends=True):
                for one in scan_line(line):
                    value = one.secret_value or ""
                    at = line.find(value)
                    if value and at >= 0:
                        kind = "password" if one.type in ("Secret Keyword", "Basic Auth Credentials") else "key"
                        yield place + at, place + at + len(value), kind
                place += len(line)

    return found


def main() -> None:
    name, file = sys.argv[1:]
    texts = json.loads(Path(file).read_text())
    found = {"presidio": presidio, "scrubadub": scrubadub, "detect-secrets": detect_secrets}[name]()
    began = time.perf_counter()
    spans = [[one for one in found(text) if one[2] != "other"] for text in texts]
    seconds = time.perf_counter() - began
    size = sum(len(text.encode()) for text in texts) / 1e6
    print(json.dumps({"spans": spans, "megabytes_per_second": size / seconds}))


if __name__ == "__main__":
    main()

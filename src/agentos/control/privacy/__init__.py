"""Find and redact personal data. In: texts and JSON values, with what schemas say of them. Out: the same with markers
in the place of what was found, and how much of each kind that was; never the values.

Arguments that execute are never redacted: what is masked is what people, models and logs are shown.
"""

"""Recognizers of personal data in free text, one file each; AGENTOS_PRIVACY_RECOGNIZER names one."""

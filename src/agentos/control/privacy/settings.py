"""Settings of privacy: the installation's rules, where an organization has none of its own, and the key of hashes."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import SettingsConfigDict

from agentos.control.privacy.model import DEFAULT_TEMPLATE, LEAST_KEY, USUAL, Kind, Mode, Rules, key_of
from agentos.kernel.settings import BadSetting, Section


class PrivacySettings(Section):
    """What is looked for in logs, and in everything of an organization that has no rules of its own."""

    model_config = SettingsConfigDict(env_prefix="AGENTOS_PRIVACY_", frozen=True, extra="ignore", populate_by_name=True)

    also: str = Field("", description="Kinds of class C to look for: ip, user_id, location, separated by ','.")
    mode: Mode = Field(Mode.MASK, description="What becomes of what is found: mask, hash or remove.")
    template: str = Field(DEFAULT_TEMPLATE, description="The marker; {type} stands for the kind, as in EMAIL.")
    regions: str = Field("US,GB,DE,FR,ES,IT,NL", description="Regions whose national phone numbers are looked for.")
    key: SecretStr = Field(
        SecretStr(""), description="Key of hashes, 32 characters at least. Empty: the mode hash is refused."
    )
    recognizer: str = Field(
        "", description="MODULE:NAME of a recognizer of names and addresses in free text. Empty: none."
    )
    logs: bool = Field(True, description="Redact logs. Off only where something behind us does it.")

    def rules(self, organization: str = "") -> Rules:
        """The installation's rules with the key of an organization. Raises BadSetting or BadPrivacyRules (Invalid)."""
        key = self.key.get_secret_value()
        if key and len(key) < LEAST_KEY:
            raise BadSetting(f"AGENTOS_PRIVACY_KEY has fewer than {LEAST_KEY} characters", then="Make a longer one.")
        if self.mode is Mode.HASH and not key:
            raise BadSetting("AGENTOS_PRIVACY_MODE is hash and AGENTOS_PRIVACY_KEY is not set", then="Set both.")
        names = {one.strip() for one in self.also.split(",") if one.strip()}
        unknown = names - {kind.value for kind in Kind}
        if unknown:
            raise BadSetting(
                f"AGENTOS_PRIVACY_ALSO: '{min(unknown)}' is no kind of personal data",
                then=f"Known: {', '.join(Kind)}.",
            )
        return Rules(
            kinds=USUAL | {Kind(one) for one in names},
            mode=self.mode,
            template=self.template,
            regions=tuple(one.strip() for one in self.regions.split(",") if one.strip()),
            key=key_of(key, organization),
        )

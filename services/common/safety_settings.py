"""Setting of the safety stage."""

from dataclasses import dataclass

from services.common.setting import setting

OFF = "off"


@dataclass(frozen=True)
class SafetySettings:
    """Where the policy is."""

    safety_policy: str = setting(
        OFF,
        "SAFETY_POLICY",
        doc="JSON file with the rules for prompts and answers (docs/safety.md); rules with words need the extra"
        " `safety`. off checks nothing.",
    )

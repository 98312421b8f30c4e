"""Skills: functions with type hints that agents may call. In: a function. Out: a pinned, schema-checked callable.

@skill(version="1", effect="S0")
async def git_log(context: SkillContext, path: str, limit: int = 100) -> list[Commit]: ...
"""

from agentos.runtime.skills.declaring import skill
from agentos.runtime.skills.model import Cost, Lookup, Retry, Reversibility, Skill, SkillContext
from agentos.runtime.skills.service import Registry

__all__ = ["Cost", "Lookup", "Registry", "Retry", "Reversibility", "Skill", "SkillContext", "skill"]

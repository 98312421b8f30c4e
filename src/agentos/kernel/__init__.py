"""Words and mechanisms that every stage uses; nothing here knows an agent, a run or a policy."""

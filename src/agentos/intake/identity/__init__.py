"""Who is asking: organizations, people, and the keys they come with. In: a key. Out: a Caller, or Unauthorized."""

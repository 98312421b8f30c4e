"""Policy: ordered rules that answer allow, ask, draft or deny for one skill call. Without a yes the answer is no."""

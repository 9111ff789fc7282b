"""Optional stage that checks prompts and answers by a policy (docs/safety.md). Without a policy nothing here runs."""

"""Why the mAP is low: facts, causes, findings."""

"""What the tools ask: one loopback port that speaks each tool's own remote cache protocol, and answers from the blob store."""

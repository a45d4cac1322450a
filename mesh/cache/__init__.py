"""What the tools ask: one loopback port that speaks each tool's own remote cache protocol, and answers from the blob store."""

from mesh.cache.nx import NxArchive, NxCache, parse_archive
from mesh.cache.server import LoopbackCache, ToolCache

__all__ = ["LoopbackCache", "NxArchive", "NxCache", "ToolCache", "parse_archive"]

"""How bytes move: one port, TLS with proof from both sides, links for control, HTTP for blobs, and ways to meet.

Listener ─┬─▶ Link          dial_link ──▶ Link          frames, one long-lived link per pair of peers
          └─▶ serve_http    BlobClient.fetch            blobs, each transfer on a connection of its own
"""

"""Distributed task execution for self-hosted CI, in a mesh of peers.

General layout, from the ground up (each room imports only what stands below it):

    types errors   the nouns that all share
    wire           what bytes mean           canonical JSON, messages, frames
    identity       who said it               keys, run authority, certificates, envelopes
    graph          what is to be done        tasks, graph
    ledger         what was agreed           entries, Merkle tree, checkpoints, tiles, verification
    protocol       what a peer decides       `effects = node.step(event, now)`: no clock, no dice, no I/O
    net            how bytes move            TLS pump, links, HTTP, discovery
    store          what survives a crash     blobs, results
    exec           what a task may do        processes, packing, restoring
    sim            a whole mesh, one seed    the core under faults, in one thread
    adapters       the user's tools          a command in, a graph out; a task in, a process out
    cache          what the tools ask        loopback cache endpoints
    report         what a person sees        terminal, plain lines, JSON
    node           one running peer          where the core and the world meet
    cli            what a person types       one file per verb
"""

"""Who said it: keys, the run authority, certificates, and signed envelopes.

Pure: randomness comes in as bytes, files and sockets are other rooms' business.
"""

from mesh.identity.authority import Authority, check_run_id, is_run_id
from mesh.identity.certificate import HOST_NAME, Credentials, Member, host_name_of, name_of, node_id_of, verify_chain
from mesh.identity.envelope import ENVELOPE_BYTES_MAX, Opened, open_envelope, seal
from mesh.identity.keys import NodeKey, node_id, verify

__all__ = [
    "ENVELOPE_BYTES_MAX",
    "HOST_NAME",
    "Authority",
    "Credentials",
    "Member",
    "NodeKey",
    "Opened",
    "check_run_id",
    "host_name_of",
    "is_run_id",
    "name_of",
    "node_id",
    "node_id_of",
    "open_envelope",
    "seal",
    "verify",
    "verify_chain",
]

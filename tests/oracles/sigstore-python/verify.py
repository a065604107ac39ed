"""Judges a bundle with PyPI's sigstore: verify.py ROOT SUBJECT ISSUER BUNDLE PAYLOAD.

Exit code 0: the certified identity signed exactly this payload. 1: refused.
"""

import sys
from pathlib import Path

from sigstore.models import Bundle, TrustedRoot
from sigstore.verify import Verifier, policy

root, subject, issuer, bundle, payload = sys.argv[1:]
verifier = Verifier(trusted_root=TrustedRoot.from_file(root))
identity = policy.AllOf([policy.Identity(identity=subject), policy.OIDCIssuerV2(issuer)])
try:
    parsed = Bundle.from_json(Path(bundle).read_bytes())
    _, signed = verifier.verify_dsse(parsed, identity)
except Exception as error:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(1)
if signed != Path(payload).read_bytes():
    print("another payload", file=sys.stderr)
    sys.exit(1)

// Judges a bundle by a public key with sigstore's own library:
// `node verify.mjs KEY.pub BUNDLE.json`; exit code 0 is good, 1 is not.
import { createHash, createPublicKey } from "node:crypto";
import { readFileSync } from "node:fs";
import { bundleFromJSON } from "@sigstore/bundle";
import { toSignedEntity, Verifier } from "@sigstore/verify";

const [, , keyPath, bundlePath] = process.argv;
const publicKey = createPublicKey(readFileSync(keyPath));
const der = publicKey.export({ type: "spki", format: "der" });
const expected = createHash("sha256").update(der).digest("base64");
const trust = {
  certificateAuthorities: [],
  timestampAuthorities: [],
  tlogs: [],
  ctlogs: [],
  publicKey: (hint) => {
    if (hint !== expected) throw new Error(`a key of the hint ${hint} is asked for`);
    return { publicKey, validFor: () => true };
  },
};
try {
  const bundle = bundleFromJSON(JSON.parse(readFileSync(bundlePath, "utf8")));
  const options = { tlogThreshold: 0, ctlogThreshold: 0, timestampThreshold: 0 };
  new Verifier(trust, options).verify(toSignedEntity(bundle));
} catch (error) {
  console.error(String(error));
  process.exit(1);
}

// Judges a bundle by a trusted root with sigstore's own library: `node --input-type=module -
// ROOT.json SUBJECT ISSUER BUNDLE.json PAYLOAD < certified.mjs`; exit code 0 is good, 1 is not.
import { readFileSync } from "node:fs";
import { bundleFromJSON } from "@sigstore/bundle";
import { TrustedRoot } from "@sigstore/protobuf-specs";
import { toSignedEntity, toTrustMaterial, Verifier } from "@sigstore/verify";

const [rootPath, subject, issuer, bundlePath, payloadPath] = process.argv.slice(2);
const escaped = subject.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
const root = TrustedRoot.fromJSON(JSON.parse(readFileSync(rootPath, "utf8")));
try {
  const bundle = bundleFromJSON(JSON.parse(readFileSync(bundlePath, "utf8")));
  const options = { tlogThreshold: 1, ctlogThreshold: 1, timestampThreshold: 1 };
  new Verifier(toTrustMaterial(root), options).verify(toSignedEntity(bundle), {
    subjectAlternativeName: `^${escaped}$`,
    extensions: { issuer },
  });
  if (!bundle.content.dsseEnvelope.payload.equals(readFileSync(payloadPath))) throw new Error("another payload");
} catch (error) {
  console.error(String(error));
  process.exit(1);
}

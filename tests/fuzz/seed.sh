#!/usr/bin/env bash
# Fills tests/fuzz/corpus from the vectors and from files made by `qyv` itself.
set -euo pipefail
cd "$(dirname "$0")/../.."
qyv=${QYV:-target/debug/qyv}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export QYVOL_HOME=$work/home

mkdir -p tests/fuzz/corpus/{archive,assets,call,componentize,compose,envelope,json,keyless,listing,lock,manifest,policy,reference,wasm}
mkdir -p tests/fuzz/corpus/encoding_{decoder,list}
# A vector's body is what stands behind its first empty line.
for vector in formats/vectors/manifest/*; do
  sed '1,/^$/d' "$vector" >"tests/fuzz/corpus/manifest/$(basename "$vector")"
done
cp examples/*/*.qyv tests/fuzz/corpus/manifest/
cp examples/hello/*.component.wasm examples/kitchen/*.wasm examples/kitchen/*/*.wasm tests/fuzz/corpus/compose/
cp tests/fuzz/seeds/componentize/* tests/fuzz/corpus/componentize/
cp examples/hello/*.wasm examples/hello-c/*.wasm tests/guests/*.wasm tests/fuzz/corpus/wasm/
for example in hello hello-c greeter-assets; do
  "$qyv" build --quiet "examples/$example" -o "tests/fuzz/corpus/archive/$example" >/dev/null
  mkdir "$work/$example"
  tar --zstd -xf "tests/fuzz/corpus/archive/$example" -C "$work/$example"
  for blob in "$work/$example"/blobs/sha256/*; do
    name=$example-$(basename "$blob" | cut -c1-8)
    case $(head -c 4 "$blob" | od -An -c | tr -d ' ') in
      '{"'*) cp "$blob" "tests/fuzz/corpus/json/$name" ;;
      '(265/375') cp "$blob" "tests/fuzz/corpus/assets/$name" ;;
    esac
    if grep -q dsseEnvelope "$blob"; then cp "$blob" "tests/fuzz/corpus/envelope/$name"; fi
  done
done
cp "$QYVOL_HOME/trust.yaml" tests/fuzz/corpus/policy/first
for vector in formats/vectors/policy/*; do
  if [ -f "$vector" ]; then sed '1,/^$/d' "$vector" >"tests/fuzz/corpus/policy/$(basename "$vector")"; fi
done
# A trusted root, a zero byte and a bundle.
cargo run --quiet -p qyvol-keyless --example instance >tests/fuzz/corpus/keyless/private
printf 'registry.example:5000/acme/app:1.0.0@sha256:%064d\n' 0 >tests/fuzz/corpus/reference/name
printf 'public/a.css\npublic/A.css\n' >tests/fuzz/corpus/reference/paths
# The first byte chooses function and language.
printf '.{"id":1,"tags":["a"],"at":{"x":1.5,"y":0,"name":null},"shape":{"polygon":[]}}' >tests/fuzz/corpus/call/json
printf '/{id: 1, tags: ["a"], at: some({x: 1.5, y: nan}), shape: polygon([])}' >tests/fuzz/corpus/call/wave
printf '%s' '<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>n</NextContinuationToken>' \
  '<EncodingType>url</EncodingType><Contents><Key>p/a%2Bb</Key><Size>1</Size><ETag>&quot;e&quot;</ETag>' \
  '<LastModified>2009-10-12T17:50:30.000Z</LastModified></Contents>' \
  '<CommonPrefixes><Prefix>p/d/</Prefix></CommonPrefixes></ListBucketResult>' >tests/fuzz/corpus/listing/s3
printf '%s' '<D:multistatus xmlns:D="DAV:"><D:response><D:href>/dav/a/b%20c</D:href><D:propstat><D:prop>' \
  '<D:getcontentlength>1</D:getcontentlength><D:resourcetype/></D:prop><D:status>HTTP/1.1 200 OK</D:status>' \
  '</D:propstat></D:response></D:multistatus>' >tests/fuzz/corpus/listing/webdav
printf '{"schema":1,"encodings":[{"target":{"digest":"sha256:%064d","size":9},"encoding":"zstd","blob":{"digest":"sha256:%064d","size":3}}]}' 0 1 >tests/fuzz/corpus/encoding_list/list
# No base, a target of 16 bytes, and a frame that repeats one byte.
printf '\000\001\050\265\057\375\040\020\203\000\000x' >tests/fuzz/corpus/encoding_decoder/repeated

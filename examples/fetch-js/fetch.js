// Fetches each URL of its arguments: the status, the type and the size of the
// answer, or why there is none.
import { getArguments } from "wasi:cli/environment@0.2.3";
import { exit } from "wasi:cli/exit@0.2.3";

// Bytes of an answer that are read.
const MAX_BODY = 1024 * 1024;

// The size of a body, which is read no further than `MAX_BODY`.
async function size(response) {
  let bytes = 0;
  const reader = response.body?.getReader();
  while (reader) {
    const { done, value } = await reader.read();
    if (done) break;
    bytes += value.byteLength;
    if (bytes > MAX_BODY) {
      await reader.cancel();
      return `more than ${MAX_BODY} bytes`;
    }
  }
  return `${bytes} bytes`;
}

// One line about what answers at a URL.
async function describe(url) {
  const response = await fetch(url);
  const type = response.headers.get("content-type") ?? "no type";
  return { ok: response.ok, line: `${response.status}, ${type}, ${await size(response)}` };
}

export const run = {
  async run() {
    const urls = getArguments().slice(1);
    // All at once; told in the order of the arguments.
    const answers = await Promise.allSettled(urls.map(describe));
    let failed = urls.length === 0;
    if (failed) console.error("usage: fetch-js URL...");
    answers.forEach(({ value, reason }, i) => {
      console.log(`${urls[i]}: ${value?.line ?? reason.message}`);
      failed ||= !value?.ok;
    });
    if (failed) exit({ tag: "err" });
  },
};

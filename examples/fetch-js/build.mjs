// Builds fetch-js.component.wasm: `node build.mjs`, after `npm install --no-save`.
import { readFile, writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

const source = await readFile("fetch.js", "utf8");
const { component } = await componentize(source, {
  witPath: "wit",
  worldName: "fetch-js",
  // It asks, and answers nobody.
  disableFeatures: ["fetch-event"],
});
await writeFile("fetch-js.component.wasm", component);

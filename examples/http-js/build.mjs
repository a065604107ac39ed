// Builds http-js.component.wasm: `node build.mjs`, after `npm install --no-save`.
import { readFile, writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

const source = await readFile("http.js", "utf8");
const { component } = await componentize(source, {
  witPath: "wit",
  worldName: "http-js",
});
await writeFile("http-js.component.wasm", component);

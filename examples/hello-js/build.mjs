// Builds hello-js.component.wasm: `node build.mjs`, after `npm install --no-save`.
import { readFile, writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

const source = await readFile("hello.js", "utf8");
const { component } = await componentize(source, {
  witPath: "wit",
  worldName: "hello",
  disableFeatures: ["http", "fetch-event"],
});
await writeFile("hello-js.component.wasm", component);

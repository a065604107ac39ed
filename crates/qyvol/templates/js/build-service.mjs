// Makes app.wasm of app.js and what it imports.
import { writeFile } from "node:fs/promises";
import { componentize } from "@bytecodealliance/componentize-js";

const { component } = await componentize({
  sourcePath: "app.js",
  witPath: "wit",
  worldName: "app",
});
await writeFile("app.wasm", component);

// Greets whoever is named in its first argument.
import { getArguments } from "wasi:cli/environment@0.2.3";
import { greeting } from "./greeting.js";

export const run = {
  run() {
    const [, name = "world"] = getArguments();
    console.log(greeting(name));
  },
};
